"""Steps through fused layers, by Triton in its interpreter, against the decoder by torch ops."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

if torch.cuda.is_available():
    pytest.skip("compiled Triton takes no CPU tensors; tests/gpu runs these there", allow_module_level=True)

from kernels.sgmv_triton import rank_capacity
from services.inference.batch import Slice, make_batch
from services.inference.model.decode_graph import DecodeStep
from services.inference.model.last_tokens import LastTokens
from services.inference.model.step_buffer import StepBuffer
from tests.integration.inference.architectures import ARCHITECTURES
from tests.integration.inference.decode_step_checks import (
    MAX_CONTEXT_TOKENS,
    MAX_ROWS,
    NAMES,
    DecodeWorld,
)
from tests.integration.inference.paged_decoder import MAX_RANK, PAGE_TOKENS, PagedDecoder
from tests.integration.inference.triton_decoder import TritonDecoder

CPU = torch.device("cpu")


class FusedDecoder:
    """The model of `paged` with Triton attention and fused layers, over the same pool and table."""

    def __init__(self, paged: PagedDecoder, model_dir: Path) -> None:
        triton = TritonDecoder(paged, model_dir, is_fused=True)
        self.decoder = triton.decoder
        max_pages = MAX_ROWS * MAX_CONTEXT_TOKENS // PAGE_TOKENS
        self._buffer = StepBuffer(MAX_ROWS, max_pages, PAGE_TOKENS, CPU)
        logits_BV = torch.full((MAX_ROWS, triton.decoder.vocab_size), torch.nan)
        parts = triton.decoder, triton.attention, triton.sgmv, self._buffer, LastTokens(MAX_ROWS, CPU)
        self._step = DecodeStep(*parts, logits_BV)

    def decode(self, slices: Sequence[Slice]) -> Tensor:
        """By the buffer that graphs read, with a row of padding."""
        num_rows = len(slices) + 1
        self._buffer.fill(slices, num_rows)
        self._step.launch(num_rows, rank_capacity(MAX_RANK))
        return self._step.logits(len(slices))

    def prefill(self, slices: Sequence[Slice]) -> Tensor:
        """Launch by launch."""
        return self.decoder.forward(make_batch(slices, PAGE_TOKENS, CPU))


@pytest.mark.parametrize("number", range(len(ARCHITECTURES)), ids=lambda n: ARCHITECTURES[n].name)
def test_fused_steps_give_the_decoder_s_logits(tmp_path: Path, number: int) -> None:
    world = DecodeWorld(ARCHITECTURES[number], tmp_path, CPU)
    fused = FusedDecoder(world.paged, tmp_path / "model")
    # Two rows of one adapter, and two variants; over all architectures every one.
    variants = sorted({3 + (number + step) % len(NAMES) for step in (0, 5)})
    rows = [1, 2, 3, *(row for row in variants if row > 3)]
    world.check_step(fused.decode, [world.streams[row] for row in rows])
    chunks = ((0, 3), (2, 9), (variants[-1], 1))
    world.check_step(fused.prefill, [world.streams[row] for row, _ in chunks], [n for _, n in chunks])


def test_a_decode_step_of_many_rows_shrinks_by_a_launch_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kernels.tuning.MAX_COMBINE_SHRINK_ROWS", 2)
    world = DecodeWorld(ARCHITECTURES[0], tmp_path, CPU)
    fused = FusedDecoder(world.paged, tmp_path / "model")
    world.check_step(fused.decode, world.streams[1:5])
