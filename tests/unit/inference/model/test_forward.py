from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from kernels.segments import BASE
from services.inference.batch import Slice
from services.inference.layer_gates import LoadGates
from services.inference.model.decode_graph import graph_sizes
from services.inference.model.forward import GraphedForward
from tests.unit.inference.step_log import StepLog

EAGER, DECODED, MIXED = (torch.tensor([[number]]) for number in (0.0, 1.0, 2.0))


class _Graphs:
    """Takes up to `max_slices`."""

    def __init__(self, max_slices: int, logits: Tensor) -> None:
        self._max_slices, self._logits = max_slices, logits

    def takes(self, slices: Sequence[Slice]) -> bool:
        return len(slices) <= self._max_slices

    def run(self, slices: Sequence[Slice]) -> Tensor:
        return self._logits


def _forward(gates: LoadGates) -> GraphedForward:
    return GraphedForward(_Graphs(1, DECODED), _Graphs(2, MIXED), lambda slices: EAGER, gates)


def row(adapter_index: int) -> Slice:
    return Slice([1], 0, [0], adapter_index, wants_logits=True)


def test_a_step_is_replayed_where_there_is_a_graph_for_it() -> None:
    forward = _forward(LoadGates((0, 1), StepLog().make_gate))
    assert forward([row(BASE)] * 1) is DECODED
    assert forward([row(BASE)] * 2) is MIXED
    assert forward([row(BASE)] * 3) is EAGER


def test_a_decode_step_begins_after_the_loads_of_its_own_adapters_alone() -> None:
    log = StepLog()
    gates = LoadGates((0, 1), log.make_gate)
    forward = _forward(gates)
    gates.begin(2, log.make_end())
    forward([row(BASE)])
    forward([row(1)])
    assert log.take() == []
    forward([row(2)])
    assert log.take() == ["steps: wait end 0"]


@pytest.mark.parametrize("num_slices", [2, 3])
def test_other_steps_find_their_own_gates(num_slices: int) -> None:
    log = StepLog()
    gates = LoadGates((0, 1), log.make_gate)
    gates.begin(2, log.make_end())
    _forward(gates)([row(2)] * num_slices)
    assert log.take() == []


@pytest.mark.parametrize("max_rows", [1, 2, 7, 8, 100, 256, 1000])
def test_sizes_rise_to_the_most_rows_with_little_padding(max_rows: int) -> None:
    sizes = graph_sizes(max_rows)
    assert sizes[-1] == max_rows
    assert list(sizes) == sorted(set(sizes))
    for smaller, larger in pairwise(sizes):
        assert larger <= 2 * smaller
        assert larger - smaller <= max(4, larger // 2)
