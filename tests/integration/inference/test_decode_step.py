"""A decode step over its buffer, by Triton in its interpreter, against the decoder by torch ops."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

if torch.cuda.is_available():
    pytest.skip("compiled Triton takes no CPU tensors; tests/gpu runs the graphs", allow_module_level=True)

from services.inference.batch import Slice
from services.inference.model.decode_graph import DecodeStep
from services.inference.model.last_tokens import LastTokens
from services.inference.model.rank_capacities import RankCapacities
from services.inference.model.step_buffer import StepBuffer
from tests.integration.inference.architectures import ARCHITECTURES
from tests.integration.inference.decode_step_checks import (
    MAX_CONTEXT_TOKENS,
    MAX_ROWS,
    NAMES,
    DecodeWorld,
    Run,
    from_last,
)
from tests.integration.inference.paged_decoder import PAGE_TOKENS, PagedDecoder
from tests.integration.inference.triton_decoder import TritonDecoder

CPU = torch.device("cpu")


def _make_run(paged: PagedDecoder, model_dir: Path) -> Run:
    triton = TritonDecoder(paged, model_dir, is_fused=False)
    last_tokens = LastTokens(MAX_ROWS, CPU)
    buffer = StepBuffer(MAX_ROWS, MAX_ROWS * MAX_CONTEXT_TOKENS // PAGE_TOKENS, PAGE_TOKENS, CPU)
    logits_BV = torch.full((MAX_ROWS, triton.decoder.vocab_size), torch.nan)
    step = DecodeStep(triton.decoder, triton.attention, triton.sgmv, buffer, last_tokens, logits_BV)
    capacities = RankCapacities(paged.table)

    def run(slices: Sequence[Slice]) -> Tensor:
        num_rows = len(slices) + 1
        buffer.fill(slices, num_rows)
        step.launch(num_rows, capacities.least(slices))
        return step.logits(len(slices))

    return from_last(run, last_tokens)


def test_a_step_over_the_buffer_gives_the_decoder_s_logits(tmp_path: Path) -> None:
    world = DecodeWorld(ARCHITECTURES[3], tmp_path, CPU)
    run = _make_run(world.paged, tmp_path / "model")
    dora, dora_embeddings = (world.streams[3 + NAMES.index(name)] for name in ("dora", "dora_embeddings"))
    world.check_step(run, [world.streams[1], world.streams[2], dora, dora_embeddings])
    world.check_step(run, world.streams[:1])
