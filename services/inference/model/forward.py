"""Slices of one step -> logits: by a graph where there is one, else launch by launch.

Must not know requests or sampling.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from services.inference.batch import Slice, make_batch
from services.inference.model.decoder import Decoder


class Forward(Protocol):
    """Runs the model once."""

    def __call__(self, slices: Sequence[Slice]) -> Tensor:
        """Logits [M, V] in float32 of the slices that want them, good until the next call.

        Put slices of one adapter side by side. Mutates the pool: writes every row's key and value.
        """
        ...


class EagerForward:
    """`Forward` by single launches, on any device."""

    def __init__(self, decoder: Decoder, page_tokens: int, device: torch.device) -> None:
        self._decoder = decoder
        self._page_tokens = page_tokens
        self._device = device

    def __call__(self, slices: Sequence[Slice]) -> Tensor:
        """As Forward."""
        return self._decoder.forward(make_batch(slices, self._page_tokens, self._device))


class Graphs(Protocol):
    """Steps that are replayed; see DecodeGraphs."""

    def takes(self, slices: Sequence[Slice]) -> bool:
        """Whether there is a graph for such a step."""
        ...

    def run(self, slices: Sequence[Slice]) -> Tensor:
        """As Forward, of a step that `takes` says yes to."""
        ...


class GraphedForward:
    """`Forward` that replays a graph for every step that there is one for."""

    def __init__(self, graphs: Graphs, eager: Forward) -> None:
        self._graphs = graphs
        self._eager = eager

    def __call__(self, slices: Sequence[Slice]) -> Tensor:
        """As Forward."""
        return self._graphs.run(slices) if self._graphs.takes(slices) else self._eager(slices)


def make_forward(
    decoder: Decoder, page_tokens: int, device: torch.device, max_rows: int, max_context_tokens: int
) -> Forward:
    """With decode graphs on a CUDA device, captured now; `max_rows` is the most that a step decodes."""
    eager = EagerForward(decoder, page_tokens, device)
    if device.type == "cuda":
        from services.inference.model.decode_graph import DecodeGraphs

        return GraphedForward(DecodeGraphs(decoder, max_rows, max_context_tokens, page_tokens), eager)
    return eager
