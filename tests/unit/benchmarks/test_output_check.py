"""The checks pass a right engine and fail a wrong one."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import output_check
from benchmarks.local_engine import Stream
from benchmarks.output_check import MixedCheck, check_logits, check_mixed
from benchmarks.plain_decoder import PlainAdapter, read_plain_adapter
from benchmarks.shape import TINY
from benchmarks.workbench import Workbench, workbench
from services.inference.messages import TokenLogprobs


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Workbench]:
    num_threads = torch.get_num_threads()
    with workbench(TINY, "cpu", 4, tmp_path) as bench:
        yield bench
    torch.set_num_threads(num_threads)


def test_a_right_engine_passes(bench: Workbench):
    logits = check_logits(bench, 4)
    assert logits.passed, logits
    assert (logits.num_streams, logits.num_values) == (5, 5 * logits.num_positions * 20)
    mixed = check_mixed(bench, 4, logits.plain_max)
    assert mixed.passed, mixed
    assert mixed.num_streams == 4


def test_a_wrong_scale_fails(bench: Workbench, monkeypatch: pytest.MonkeyPatch):
    def wrong(directory: Path, device: torch.device) -> PlainAdapter:
        return replace(read_plain_adapter(directory, device), scale=1.9)

    monkeypatch.setattr(output_check, "read_plain_adapter", wrong)
    assert not check_logits(bench, 4).passed


def test_another_s_adapter_fails(bench: Workbench, monkeypatch: pytest.MonkeyPatch):
    def wrong(directory: Path, device: torch.device) -> PlainAdapter:
        return read_plain_adapter(Path(bench.adapters[0].version_name), device)

    monkeypatch.setattr(output_check, "read_plain_adapter", wrong)
    assert not check_logits(bench, 4).passed


def test_a_difference_passes_at_a_near_tie_only():
    alone = Stream("r", 0.0, [5, 6], [_position(-1.0, -2.0), _position(-1.0, -1.25)])
    gap = output_check._gap_at_difference
    assert gap([5, 6], alone) is None
    assert gap([5, 7], alone) == 0.25
    assert gap([4, 7], alone) == 1.0
    check = MixedCheck(num_streams=1, num_equal=0, worst_gap=0.25, gap_bound=0.2)
    assert not check.passed
    assert replace(check, gap_bound=0.25).passed


def _position(best: float, second: float) -> TokenLogprobs:
    return TokenLogprobs(1, best, ((1, best), (2, second)))
