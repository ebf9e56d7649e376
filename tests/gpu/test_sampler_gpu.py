"""The sampler on a real device: the CPU's tokens."""

import torch

from services.inference.request import SamplingParams
from services.inference.sampler_row import SamplerRow
from tests.sampling import sample


def test_seeded_draws_are_those_of_the_cpu() -> None:
    logits = torch.randn(64, 5000, generator=torch.Generator().manual_seed(0)) * 3
    rows = [
        SamplerRow(
            SamplingParams(
                seed=seed,
                temperature=(0.0, 0.8, 1.3)[seed % 3],
                top_p=(1.0, 0.9)[seed % 2],
                top_k=(0, 40)[seed // 2 % 2],
                repetition_penalty=(1.0, 1.2)[seed // 4 % 2],
            ),
            (1, 2, 3),
            (4, 5),
        )
        for seed in range(64)
    ]
    on_cpu = [token.token_id for token in sample(logits, rows)]
    assert [token.token_id for token in sample(logits.cuda(), rows)] == on_cpu
