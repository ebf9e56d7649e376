"""Whose request is whose: the four popularities of Punica (Chen et al. 2023). Must not know tensors."""

import random
from collections import Counter
from enum import StrEnum

ZIPF_EXPONENT = 1.5


class Popularity(StrEnum):
    """How a batch's requests are spread over adapters."""

    DISTINCT = "Distinct"
    UNIFORM = "Uniform"
    SKEWED = "Skewed"
    IDENTICAL = "Identical"


def runs(popularity: Popularity, batch: int) -> list[tuple[int, int]]:
    """(adapter, its requests) of a batch, the most popular first; the same for the same batch.

    Distinct: an adapter each. Uniform: about sqrt(batch) adapters, alike. Skewed: each request draws
    the k-th of `batch` adapters with weight k^-1.5. Identical: one.
    """
    match popularity:
        case Popularity.DISTINCT:
            return [(adapter, 1) for adapter in range(batch)]
        case Popularity.UNIFORM:
            count = round(batch**0.5)
            return [(a, batch // count + (a < batch % count)) for a in range(count)]
        case Popularity.SKEWED:
            weights = [(k + 1) ** -ZIPF_EXPONENT for k in range(batch)]
            return sorted(Counter(random.Random(0).choices(range(batch), weights, k=batch)).items())
        case Popularity.IDENTICAL:
            return [(0, batch)]
