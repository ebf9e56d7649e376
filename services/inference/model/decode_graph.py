"""Decode steps as CUDA graphs: one a number of rows, whoever the rows belong to.

Must not know requests or sampling. A step pads its rows to the next size there is a graph for, sends
what differs from step to step in one copy, and replays.

Legend: B rows of a graph, V vocabulary.
"""

import logging
import time
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from kernels.segments import make_segments
from kernels.sgmv_triton import TritonSgmv
from services.inference.batch import Slice
from services.inference.model.decoder import Decoder
from services.inference.model.graph_capture import Capture, Graph
from services.inference.model.last_tokens import LastTokens
from services.inference.model.rank_capacities import NO_LORA, RankCapacities
from services.inference.model.step_buffer import StepBuffer
from services.inference.model.step_limits import StepLimits
from services.inference.model.triton_attention import DecodeReads, TritonAttention

log = logging.getLogger(__name__)


def graph_sizes(max_rows: int) -> tuple[int, ...]:
    """Numbers of rows that graphs are captured for, `max_rows` the last."""
    steps = (1, 2, 4, *range(8, 64, 8), *range(64, 128, 16), *range(128, 256, 32))
    return (*(size for size in (*steps, *range(256, max_rows, 64)) if size < max_rows), max_rows)


class DecodeStep:
    """The launches of one decode step over a buffer; runs on any device that Triton runs on."""

    def __init__(
        self,
        decoder: Decoder,
        attention: TritonAttention,
        sgmv: TritonSgmv,
        buffer: StepBuffer,
        last_tokens: LastTokens,
        logits_BV: Tensor,
    ) -> None:
        """Logits go to logits_BV, float32, contiguous, with room for the buffer's rows."""
        self._decoder = decoder
        self._attention = attention
        self._sgmv = sgmv
        self._buffer = buffer
        self._last_tokens = last_tokens
        self._logits_BV = logits_BV
        # Only its identity matters: what is launched reads tiles from the buffer.
        self._segments = make_segments([(0, buffer.max_rows)], logits_BV.device)

    def logits(self, num_rows: int) -> Tensor:
        """[num_rows, V] float32: those of the last step, until the next."""
        return self._logits_BV[:num_rows]

    @torch.inference_mode()
    def launch(self, num_rows: int, capacity: int) -> None:
        """Computes the logits of the buffer's first `num_rows` rows.

        Adapters have ranks of at most `capacity`; NO_LORA means that every row is a base row.
        """
        rows = self._buffer.views(num_rows)
        self._last_tokens.pick_(rows.token_ids_B)
        reads = DecodeReads(rows.context_lens_B, rows.first_pages_B)
        attention = self._attention.step(rows.positions_B, rows.slots_B, rows.pages_X, reads)
        segments = None if capacity == NO_LORA else self._segments
        with self._sgmv.prepared(self._segments, rows.row_tiles, capacity):
            logits_BV = self._decoder.decode(rows.token_ids_B, attention, segments)
        self.logits(num_rows).copy_(logits_BV)


class DecodeGraphs:
    """Graphs of steps of one row a sequence, all captured when made.

    Each size has a graph without LoRA, one for ranks of a tile at most and one for every rank that is
    served.
    """

    def __init__(
        self,
        decoder: Decoder,
        last_tokens: LastTokens,
        capture: Capture,
        logits_BV: Tensor,
        limits: StepLimits,
    ) -> None:
        """Logits go to logits_BV, float32, contiguous, one row a sequence that a step may have."""
        attention, sgmv = decoder.attention, decoder.sgmv
        assert isinstance(attention, TritonAttention)
        assert isinstance(sgmv, TritonSgmv)
        self._capacities = RankCapacities(sgmv.table)
        max_rows = limits.max_sequences
        self._buffer = StepBuffer(max_rows, limits.max_pages, limits.page_tokens, logits_BV.device)
        self._step = DecodeStep(decoder, attention, sgmv, self._buffer, last_tokens, logits_BV)
        self._sizes = graph_sizes(max_rows)
        self._graphs = self._capture_all(capture)

    def takes(self, slices: Sequence[Slice]) -> bool:
        """Whether `slices` are a decode step: one token each, whose logits are wanted."""
        return 0 < len(slices) <= self._sizes[-1] and all(
            part.wants_logits and len(part.token_ids) == 1 for part in slices
        )

    def run(self, slices: Sequence[Slice]) -> Tensor:
        """Logits [rows, V] in float32 of a step that `takes` says yes to, overwritten by the next.

        Put slices of one adapter side by side. Mutates the pool as Decoder.forward does.
        """
        num_rows = next(size for size in self._sizes if size >= len(slices))
        self._buffer.fill(slices, num_rows)
        self._graphs[num_rows, self._capacities.least(slices)].replay()
        return self._step.logits(len(slices))

    def _capture_all(self, capture: Capture) -> dict[tuple[int, int], Graph]:
        started_s = time.monotonic()
        self._buffer.fill((), self._sizes[-1])
        graphs = {
            (size, capacity): capture.capture(partial(self._step.launch, size, capacity))
            for size in reversed(self._sizes)
            for capacity in reversed(self._capacities.all)
        }
        capture.synchronize()
        log.info("%d decode graphs captured in %.1f s", len(graphs), time.monotonic() - started_s)
        return graphs
