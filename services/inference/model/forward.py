"""Slices of one step -> logits: by a graph where there is one, else launch by launch.

Must not know requests or sampling.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from services.inference.batch import Slice, make_batch
from services.inference.layer_gates import LoadGates
from services.inference.model.decoder import Decoder
from services.inference.model.last_tokens import LastTokens
from services.inference.model.step_limits import StepLimits


class Forward(Protocol):
    """Runs the model once."""

    def __call__(self, slices: Sequence[Slice]) -> Tensor:
        """Logits [M, V] in float32 of the slices that want them, good until the next call.

        Put slices of one adapter side by side. Mutates the pool: writes every row's key and value.
        """
        ...


class EagerForward:
    """`Forward` by single launches, on any device; waits for loads gate by gate."""

    def __init__(
        self,
        decoder: Decoder,
        gates: LoadGates,
        last_tokens: LastTokens,
        page_tokens: int,
        device: torch.device,
    ) -> None:
        self._decoder = decoder
        self._gates = gates
        self._last_tokens = last_tokens
        self._page_tokens = page_tokens
        self._device = device

    def __call__(self, slices: Sequence[Slice]) -> Tensor:
        """As Forward."""
        batch = make_batch(slices, self._page_tokens, self._device)
        self._last_tokens.pick_(batch.token_ids_T)
        return self._decoder.forward(batch, self._gates.for_step(_adapter_indices(slices)))


class Graphs(Protocol):
    """Steps that are replayed; see DecodeGraphs and MixedGraphs."""

    def takes(self, slices: Sequence[Slice]) -> bool:
        """Whether there is a graph for such a step."""
        ...

    def run(self, slices: Sequence[Slice]) -> Tensor:
        """As Forward, of a step that `takes` says yes to."""
        ...


class GraphedForward:
    """`Forward` that replays a graph for every step that there is one for.

    `decode` graphs have no gates within: a step that decodes with an adapter whose copy is under way begins
    when the copy has ended, and every other step has nothing to wait for. `mixed` graphs pass gates.
    """

    def __init__(self, decode: Graphs, mixed: Graphs, eager: Forward, gates: LoadGates) -> None:
        self._decode = decode
        self._mixed = mixed
        self._eager = eager
        self._gates = gates

    def __call__(self, slices: Sequence[Slice]) -> Tensor:
        """As Forward."""
        if self._decode.takes(slices):
            self._gates.wait_for_whole(_adapter_indices(slices))
            return self._decode.run(slices)
        return self._mixed.run(slices) if self._mixed.takes(slices) else self._eager(slices)


def make_forward(decoder: Decoder, gates: LoadGates, last_tokens: LastTokens, limits: StepLimits) -> Forward:
    """With graphs on a CUDA device, captured now.

    Token ids that `row_of_last` made are read from `last_tokens`, which also says the device.
    """
    device = last_tokens.device
    eager = EagerForward(decoder, gates, last_tokens, limits.page_tokens, device)
    if device.type == "cuda":
        from services.inference.model.decode_graph import DecodeGraphs
        from services.inference.model.graph_capture import CudaCapture
        from services.inference.model.mixed_graph import MixedGraphs

        capture = CudaCapture()
        shape = (limits.max_sequences, decoder.vocab_size)
        logits_MV = torch.empty(shape, dtype=torch.float32, device=device)
        # The larger first: the smaller then fit in their memory.
        mixed = MixedGraphs(decoder, gates, last_tokens, capture, logits_MV, limits)
        decode = DecodeGraphs(decoder, last_tokens, capture, logits_MV, limits)
        return GraphedForward(decode, mixed, eager, gates)
    return eager


def _adapter_indices(slices: Sequence[Slice]) -> set[int]:
    return {part.adapter_index for part in slices}
