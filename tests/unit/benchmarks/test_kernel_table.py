"""The kernel table's own check of its outputs."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.budget import Budget
from benchmarks.kernel_table import Ceilings, KernelRow, is_right, run_kernel_table
from benchmarks.kernel_world import KernelWorld
from benchmarks.random_model import write_config
from benchmarks.shape import TINY, KernelSizes
from services.inference.model.config import read_config

SIZES = KernelSizes(batches=(1, 4), ranks=(4, 8), num_layers=2, replays=1)


@pytest.fixture
def world(tmp_path: Path) -> KernelWorld:
    write_config(tmp_path, TINY.config)
    shape = replace(TINY, kernel=SIZES)
    return KernelWorld(shape, read_config(tmp_path), torch.float32, torch.device("cpu"))


def take(world: KernelWorld, seconds: float) -> tuple[list[KernelRow], str]:
    taken: list[KernelRow] = []
    skipped = run_kernel_table(world, SIZES, Ceilings(1e9, 1e-6), Budget(seconds), taken.extend)
    return list(dict.fromkeys(taken)), skipped


def test_every_cell_is_right_and_its_floor_counts_true_ranks(world: KernelWorld):
    rows, skipped = take(world, 60)
    assert skipped == ""
    # A batch of one is spread in one way, of four in four; each with two ranks and mixed ones.
    assert len(rows) == 4 * (1 + 4) * 3
    assert all(is_right(row, torch.float32) for row in rows)
    wanted = ("o", 4, "Distinct", "mixed")
    (mixed,) = (row for row in rows if (row.group, row.batch, row.popularity, row.ranks) == wanted)
    # Ranks 4, 8, 4, 8 of 64 -> 64; four rows of x, and of y twice; float32 at 1e9 bytes a second.
    assert mixed.floor_us == pytest.approx(4 * (24 * 128 + 3 * 4 * 64) / 1e9 * 1e6)


def test_a_wrong_kernel_is_found(world: KernelWorld, monkeypatch: pytest.MonkeyPatch):
    add_ = world.sgmv.add_

    def wrong(y_TN, x_TK, sites, segments, bias_N):
        add_(y_TN, x_TK * 1.001, sites, segments, bias_N)

    monkeypatch.setattr(world.sgmv, "add_", wrong)
    rows, _ = take(world, 60)
    assert not any(is_right(row, torch.float32) for row in rows)
    assert not is_right(replace(rows[0], error=math.nan), torch.float32)


def test_what_there_was_no_time_for_is_named(world: KernelWorld):
    rows, skipped = take(world, 0)
    assert rows == []
    assert skipped == "kernel: o from batch 1 on, and the groups after it"
