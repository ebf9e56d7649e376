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

EAGER, GRAPHED = torch.tensor([[0.0]]), torch.tensor([[1.0]])


class _OneRowGraphs:
    def takes(self, slices: Sequence[Slice]) -> bool:
        return len(slices) == 1

    def run(self, slices: Sequence[Slice]) -> Tensor:
        return GRAPHED


def row(adapter_index: int) -> Slice:
    return Slice([1], 0, [0], adapter_index, wants_logits=True)


def test_a_step_is_replayed_where_there_is_a_graph_for_it() -> None:
    forward = GraphedForward(_OneRowGraphs(), lambda slices: EAGER, LoadGates((0, 1), StepLog().make_gate))
    assert forward([row(BASE)]) is GRAPHED
    assert forward([row(BASE), row(BASE)]) is EAGER


def test_a_replay_begins_after_the_loads_of_its_own_adapters_alone() -> None:
    log = StepLog()
    gates = LoadGates((0, 1), log.make_gate)
    forward = GraphedForward(_OneRowGraphs(), lambda slices: EAGER, gates)
    gates.begin(2, log.make_end())
    forward([row(BASE)])
    forward([row(1)])
    assert log.take() == []
    forward([row(2)])
    assert log.take() == ["steps: wait end 0"]


def test_steps_without_a_graph_find_their_own_gates() -> None:
    log = StepLog()
    gates = LoadGates((0, 1), log.make_gate)
    gates.begin(2, log.make_end())
    GraphedForward(_OneRowGraphs(), lambda slices: EAGER, gates)([row(2), row(2)])
    assert log.take() == []


@pytest.mark.parametrize("max_rows", [1, 2, 7, 8, 100, 256, 1000])
def test_sizes_rise_to_the_most_rows_with_little_padding(max_rows: int) -> None:
    sizes = graph_sizes(max_rows)
    assert sizes[-1] == max_rows
    assert list(sizes) == sorted(set(sizes))
    for smaller, larger in pairwise(sizes):
        assert larger <= 2 * smaller
        assert larger - smaller <= max(4, larger // 2)
