"""The sampler's parts, launched and waited for at once."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kernels.host_copies import SentArrays
from services.inference.gumbel_noise import gumbel_noise, noise_keys
from services.inference.logit_adjustment import LogitAdjustment
from services.inference.model.last_tokens import LastTokens
from services.inference.sampler import launch_sampling
from services.inference.sampler_row import SampledToken, SamplerRow


def sample(
    logits_MV: Tensor, rows: Sequence[SamplerRow], last: LastTokens | None = None
) -> list[SampledToken]:
    last = last or LastTokens(len(rows), logits_MV.device)
    return launch_sampling(logits_MV, rows, last).tokens()


def adjusted_logits(logits_MV: Tensor, rows: Sequence[SamplerRow], last: LastTokens | None = None) -> Tensor:
    arrays = SentArrays()
    adjustment = LogitAdjustment(rows, logits_MV.shape[1], arrays)
    arrays.send(logits_MV.device)
    return adjustment.apply(logits_MV, last or LastTokens(len(rows), logits_MV.device))


def noise_like(pairs: Sequence[tuple[int, int]], like_XV: Tensor) -> Tensor:
    return gumbel_noise(torch.from_numpy(noise_keys(pairs)), like_XV)
