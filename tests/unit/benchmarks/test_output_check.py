"""The checks pass a right engine and fail a wrong one."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import output_check
from benchmarks.output_check import check_logits
from benchmarks.plain_decoder import PlainAdapter, read_plain_adapter
from benchmarks.workbench import Workbench


def test_a_right_engine_passes(bench: Workbench):
    logits = check_logits(bench, 4)
    assert logits.passed, logits
    assert (logits.num_streams, logits.num_values) == (5, 5 * logits.num_positions * 20)


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
