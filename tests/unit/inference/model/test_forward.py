from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from kernels.segments import BASE
from services.inference.batch import Slice
from services.inference.model.decode_graph import graph_sizes
from services.inference.model.forward import GraphedForward

EAGER, GRAPHED = torch.tensor([[0.0]]), torch.tensor([[1.0]])


class _OneRowGraphs:
    def takes(self, slices: Sequence[Slice]) -> bool:
        return len(slices) == 1

    def run(self, slices: Sequence[Slice]) -> Tensor:
        return GRAPHED


def test_a_step_is_replayed_where_there_is_a_graph_for_it() -> None:
    row = Slice([1], 0, [0], BASE, wants_logits=True)
    forward = GraphedForward(_OneRowGraphs(), lambda slices: EAGER)
    assert forward([row]) is GRAPHED
    assert forward([row, row]) is EAGER


@pytest.mark.parametrize("max_rows", [1, 2, 7, 8, 100, 256, 1000])
def test_sizes_rise_to_the_most_rows_with_little_padding(max_rows: int) -> None:
    sizes = graph_sizes(max_rows)
    assert sizes[-1] == max_rows
    assert list(sizes) == sorted(set(sizes))
    for smaller, larger in pairwise(sizes):
        assert larger <= 2 * smaller
        assert larger - smaller <= max(4, larger // 2)
