"""S-LoRA's published trace: the same generator, distributions and order of draws. Sheng et al. 2023."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import RandomState

from benchmarks.shape import ThousandsSizes

SEED = 42


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request; `due_s` counts from the trace's start."""

    due_s: float
    adapter: int
    num_prompt_tokens: int
    num_output_tokens: int


def draw_trace(sizes: ThousandsSizes, num_adapters: int) -> Sequence[Arrival]:
    """seconds x requests_per_s arrivals over `num_adapters`; a skew of 1 is uniform, 0.1 strongly skewed."""
    random, count = RandomState(SEED), int(sizes.seconds * sizes.requests_per_s)
    adapters = (random.power(sizes.skew, count) * num_adapters).astype(np.int64).tolist()
    prompts = random.randint(*sizes.lengths, count).tolist()
    outputs = random.randint(*sizes.lengths, count).tolist()
    gaps_s = random.gamma(1 / sizes.cv**2, sizes.cv**2 / sizes.requests_per_s, count)
    dues_s = np.cumsum(gaps_s).tolist()
    return [Arrival(*each) for each in zip(dues_s, adapters, prompts, outputs, strict=True)]
