"""Draws the requests of a run from a Load: a function of its arguments and the seed alone.

With power popularity the draws are those of S-LoRA's published traces, in the same order from the same
generator: adapters, prompt lengths, output lengths, gaps.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from client.bench.load import Load, Popularity

# Any vocabulary has this many tokens; which ones a prompt holds makes no difference to the cost.
_NUM_TOKEN_IDS = 32


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """One request of a run; `arrival_s` counts from its start."""

    arrival_s: float
    adapter: str
    prompt_ids: tuple[int, ...]
    num_output_tokens: int


def draw_trace(load: Load, adapters: Sequence[str]) -> list[PlannedRequest]:
    """`load.size` requests over `adapters`, in order of arrival."""
    random = RandomState(load.seed)
    choices = _draw_adapters(load, len(adapters), random)
    prompt_lengths = random.randint(*load.prompt_tokens, load.size)
    output_lengths = random.randint(*load.output_tokens, load.size)
    gaps_s = random.gamma(1 / load.cv**2, load.cv**2 / load.rate_per_s, load.size)
    arrivals_s = np.cumsum(gaps_s)
    return [
        PlannedRequest(
            arrival_s=float(arrivals_s[index]),
            adapter=adapters[int(choices[index])],
            prompt_ids=tuple(random.randint(0, _NUM_TOKEN_IDS, prompt_lengths[index]).tolist()),
            num_output_tokens=int(output_lengths[index]),
        )
        for index in range(load.size)
    ]


def _draw_adapters(load: Load, num_adapters: int, random: RandomState) -> NDArray[np.int64]:
    match load.popularity:
        case Popularity.distinct:
            return np.arange(load.size) % num_adapters
        case Popularity.uniform:
            return random.randint(0, num_adapters, load.size)
        case Popularity.zipf:
            weights = np.arange(1, num_adapters + 1, dtype=np.float64) ** -load.skew
            return random.choice(num_adapters, load.size, p=weights / weights.sum())
        case Popularity.power:
            return (random.power(load.skew, load.size) * num_adapters).astype(np.int64)
