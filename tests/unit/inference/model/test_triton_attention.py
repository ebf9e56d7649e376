"""Attention and pointwise arithmetic by Triton, in its interpreter, against those by torch ops."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

if torch.cuda.is_available():
    pytest.skip("compiled Triton takes no CPU tensors; tests/gpu runs the kernels", allow_module_level=True)

from kernels.paged_kv import PagedKv
from services.inference.batch import make_batch
from services.inference.model.choose import make_attention
from services.inference.model.head_norms import head_norms
from services.inference.model.kv_pages import kv_page_elements
from services.inference.model.pointwise import TorchPointwise
from services.inference.model.rope import Rope
from services.inference.model.triton_attention import TritonAttention
from services.inference.model.triton_pointwise import TritonPointwise
from services.inference.model.weights import load_weights
from tests.unit.inference.model.tiny_checkpoint import CPU, NUM_PAGES, PAGE_TOKENS, part, write_checkpoint

# Float32 sums of some dozens of terms of order 1, in another order.
ROUNDING = 1e-5
STEPS = ([6, 1, 3], [1, 1, 1], [1, 8, 0], [1, 1, 1])


@pytest.mark.parametrize(
    "changes",
    [{}, {"architectures": ["Qwen3ForCausalLM"], "head_dim": 12}, {"num_key_value_heads": 4}],
    ids=["llama", "head_norms", "no_groups"],
)
@pytest.mark.parametrize("window", [None, 5])
def test_steps_of_chunks_and_of_single_tokens_match(
    tmp_path: Path, changes: dict[str, Any], window: int | None
) -> None:
    config = replace(write_checkpoint(tmp_path, **changes), sliding_window_tokens=window)
    weights = load_weights(tmp_path, config, torch.float32, CPU)
    elements = kv_page_elements(config, PAGE_TOKENS)
    by_torch = make_attention(config, weights, torch.full((NUM_PAGES * elements,), 0.5), PAGE_TOKENS)
    pool_E = torch.full((NUM_PAGES * elements,), float("nan"))
    kv = PagedKv(pool_E, config.num_layers, PAGE_TOKENS, config.num_kv_heads, config.head_dim)
    rope = Rope(config.rope, config.head_dim, torch.float32, CPU)
    by_triton = TritonAttention(config, rope, head_norms(weights), kv)
    pages = random.Random(4).sample(range(NUM_PAGES), 15)
    done = [0, 0, 0]
    torch.manual_seed(2)
    for sizes in STEPS:
        slices = [
            part([0] * 40, done[n], done[n] + size, pages[5 * n : 5 * n + 5])
            for n, size in enumerate(sizes)
            if size
        ]
        batch = make_batch(slices, PAGE_TOKENS, CPU)
        steps = by_torch.begin(batch), by_triton.begin(batch)
        for layer in range(config.num_layers):
            qkv_TX = torch.randn(batch.num_tokens, config.q_size + 2 * config.kv_size)
            expected, found = (step.attend(layer, qkv_TX.clone()) for step in steps)
            torch.testing.assert_close(found, expected, rtol=0, atol=ROUNDING)
        done = [start + size for start, size in zip(done, sizes, strict=True)]


def test_pointwise_matches() -> None:
    torch.manual_seed(1)
    hidden_TH, delta_TH, weight_H = torch.randn(3, 24), torch.randn(3, 24), torch.randn(24)
    for delta in (None, delta_TH):
        sums = hidden_TH.clone(), hidden_TH.clone()
        expected = TorchPointwise().add_norm_(sums[0], delta, weight_H, 1e-5)
        found = TritonPointwise().add_norm_(sums[1], delta, weight_H, 1e-5)
        torch.testing.assert_close(found, expected, rtol=0, atol=ROUNDING)
        assert torch.equal(sums[0], sums[1])
    expected, found = TorchPointwise().silu_mul(hidden_TH), TritonPointwise().silu_mul(hidden_TH)
    torch.testing.assert_close(found, expected, rtol=0, atol=ROUNDING)
