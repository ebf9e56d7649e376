"""Steps with chunks of prompts as CUDA graphs: one a number of tokens, whoever the tokens belong to.

Must not know requests or sampling. A step pads its rows to the next size there is a graph for, sends what
differs from step to step in one copy, and replays.

Legend: M sequences of a step, V vocabulary.
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
from services.inference.layer_gates import OPEN_GATES, LayerGates, LoadGates
from services.inference.model.decoder import Decoder
from services.inference.model.graph_capture import Capture, Graph
from services.inference.model.last_tokens import LastTokens
from services.inference.model.mixed_buffer import MixedBuffer
from services.inference.model.mixed_shape import MixedShape, mixed_shape, token_sizes
from services.inference.model.rank_capacities import NO_LORA, RankCapacities
from services.inference.model.step_limits import StepLimits
from services.inference.model.triton_attention import ChunkReads, TritonAttention

log = logging.getLogger(__name__)


class MixedStep:
    """The launches of one step over a buffer; runs on any device that Triton runs on."""

    def __init__(
        self,
        decoder: Decoder,
        attention: TritonAttention,
        sgmv: TritonSgmv,
        buffer: MixedBuffer,
        last_tokens: LastTokens,
        logits_MV: Tensor,
    ) -> None:
        """Logits go to logits_MV, float32, contiguous, with room for the sequences of any step."""
        self._decoder = decoder
        self._attention = attention
        self._sgmv = sgmv
        self._buffer = buffer
        self._last_tokens = last_tokens
        self._logits_MV = logits_MV
        # Only their identity matters: what is launched reads tiles from the buffer.
        self._segments, self._wanted_segments = (make_segments([(0, 1)], logits_MV.device) for _ in range(2))

    @torch.inference_mode()
    def launch(self, shape: MixedShape, capacity: int, gates: LayerGates) -> None:
        """Computes the logits that the buffer's step wants, which is padded to `shape`; passes `gates`.

        Adapters have ranks of at most `capacity`; NO_LORA means that every row is a base row.
        """
        step = self._buffer.views(shape)
        self._last_tokens.pick_(step.token_ids_T)
        reads = ChunkReads(step.query_tiles_W4)
        attention = self._attention.step(step.positions_T, step.slots_T, step.pages_X, reads)
        has_lora = capacity != NO_LORA
        with (
            self._sgmv.prepared(self._segments, step.row_tiles, capacity),
            self._sgmv.prepared(self._wanted_segments, step.wanted_tiles, capacity),
        ):
            logits_MV = self._decoder.chunks(
                step.token_ids_T,
                attention,
                step.wanted_rows_M,
                self._segments if has_lora else None,
                self._wanted_segments if has_lora else None,
                gates,
            )
        self._logits_MV[: len(logits_MV)].copy_(logits_MV)


class MixedGraphs:
    """Graphs of steps of up to MAX_TOKENS tokens of many sequences, captured when made.

    Each size has a graph without LoRA and one for each size of rank; none of them waits for a load. One more,
    for every rank, passes `gates`: it is for steps with an adapter that is being copied.
    """

    def __init__(
        self,
        decoder: Decoder,
        gates: LoadGates,
        last_tokens: LastTokens,
        capture: Capture,
        logits_MV: Tensor,
        limits: StepLimits,
    ) -> None:
        """Logits go to logits_MV, float32, one row a sequence that a step may have."""
        attention, sgmv = decoder.attention, decoder.sgmv
        assert isinstance(attention, TritonAttention)
        assert isinstance(sgmv, TritonSgmv)
        self._gates = gates
        self._logits_MV = logits_MV
        self._capacities = RankCapacities(sgmv.table)
        self._max_sequences = limits.max_sequences
        query_rows = attention.query_tile_rows
        self._shapes = tuple(
            [mixed_shape(size, self._max_sequences, query_rows) for size in token_sizes(limits.max_tokens)]
        )
        device = logits_MV.device
        self._buffer = MixedBuffer(self._shapes, limits.max_pages, limits.page_tokens, device)
        self._step = MixedStep(decoder, attention, sgmv, self._buffer, last_tokens, logits_MV)
        self._graphs = self._capture_all(capture)

    def takes(self, slices: Sequence[Slice]) -> bool:
        """Whether there is a graph with room for `slices`."""
        num_tokens = sum([len(part.token_ids) for part in slices])
        return len(slices) <= self._max_sequences and 0 < num_tokens <= self._shapes[-1].num_tokens

    def run(self, slices: Sequence[Slice]) -> Tensor:
        """As Forward, of a step that `takes` says yes to."""
        num_tokens = sum([len(part.token_ids) for part in slices])
        shape = next(shape for shape in self._shapes if shape.num_tokens >= num_tokens)
        waits = self._gates.for_step({part.adapter_index for part in slices}) is not OPEN_GATES
        capacity = self._capacities.all[-1] if waits else self._capacities.least(slices)
        self._buffer.fill(slices, shape)
        self._graphs[shape.num_tokens, capacity, waits].replay()
        return self._logits_MV[: sum([part.wants_logits for part in slices])]

    def _capture_all(self, capture: Capture) -> dict[tuple[int, int, bool], Graph]:
        started_s = time.monotonic()
        graphs = {}
        self._buffer.fill((), self._shapes[-1])
        for shape in reversed(self._shapes):
            for capacity, waits in self._kinds():
                gates = self._gates if waits else OPEN_GATES
                launch = partial(self._step.launch, shape, capacity, gates)
                graphs[shape.num_tokens, capacity, waits] = capture.capture(launch)
        capture.synchronize()
        log.info("%d graphs of mixed steps captured in %.1f s", len(graphs), time.monotonic() - started_s)
        return graphs

    def _kinds(self) -> list[tuple[int, bool]]:
        """(rank capacity, whether gates are passed), the largest first."""
        capacities = self._capacities.all[::-1]
        return [(capacities[0], True), *((capacity, False) for capacity in capacities)]
