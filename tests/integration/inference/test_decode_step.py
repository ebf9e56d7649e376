"""A decode step over its buffer, by Triton in its interpreter, against the decoder by torch ops."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

if torch.cuda.is_available():
    pytest.skip("compiled Triton takes no CPU tensors; tests/gpu runs the graphs", allow_module_level=True)

from kernels.paged_kv import PagedKv
from kernels.segments import BASE
from kernels.sgmv_triton import TritonSgmv, rank_capacity
from services.inference.batch import Slice
from services.inference.model.decode_graph import NO_LORA, DecodeStep
from services.inference.model.decoder import Decoder
from services.inference.model.head_norms import head_norms
from services.inference.model.last_tokens import LastTokens
from services.inference.model.rope import Rope
from services.inference.model.step_buffer import StepBuffer
from services.inference.model.triton_attention import TritonAttention
from services.inference.model.weights import load_weights
from tests.integration.inference.architectures import ARCHITECTURES
from tests.integration.inference.decode_step_checks import (
    MAX_CONTEXT_TOKENS,
    MAX_ROWS,
    NAMES,
    DecodeWorld,
    Run,
    from_last,
)
from tests.integration.inference.paged_decoder import MAX_RANK, PAGE_TOKENS, PagedDecoder

CPU = torch.device("cpu")


def _make_run(paged: PagedDecoder, model_dir: Path) -> Run:
    config = paged.config
    weights = load_weights(model_dir, config, torch.float32, CPU)
    sgmv = TritonSgmv(paged.table)
    kv = PagedKv(paged.pool_E, config.num_layers, PAGE_TOKENS, config.num_kv_heads, config.head_dim)
    rope = Rope(config.rope, config.head_dim, torch.float32, CPU)
    attention = TritonAttention(config, rope, head_norms(weights), kv)
    decoder = Decoder(config, weights, paged.pool_E, PAGE_TOKENS, sgmv)
    last_tokens = LastTokens(MAX_ROWS, CPU)
    buffer = StepBuffer(MAX_ROWS, MAX_ROWS * MAX_CONTEXT_TOKENS // PAGE_TOKENS, PAGE_TOKENS, CPU)
    step = DecodeStep(decoder, attention, sgmv, buffer, last_tokens)

    def run(slices: Sequence[Slice]) -> Tensor:
        has_adapters = any(part.adapter_index != BASE for part in slices)
        num_rows = len(slices) + 1
        buffer.fill(slices, num_rows)
        step.launch(num_rows, rank_capacity(MAX_RANK) if has_adapters else NO_LORA)
        return step.logits(len(slices))

    return from_last(run, last_tokens)


def test_a_step_over_the_buffer_gives_the_decoder_s_logits(tmp_path: Path) -> None:
    world = DecodeWorld(ARCHITECTURES[3], tmp_path, CPU)
    run = _make_run(world.paged, tmp_path / "model")
    dora, dora_embeddings = (world.streams[3 + NAMES.index(name)] for name in ("dora", "dora_embeddings"))
    world.check_step(run, [world.streams[1], world.streams[2], dora, dora_embeddings])
    world.check_step(run, world.streams[:1])
