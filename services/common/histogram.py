"""A distribution as counts by bucket: two additions an observation, so that loops can afford it.

Must not know who exports it. Owned by one thread; any other may read it, and sees counts that are at most one
observation apart.
"""

from bisect import bisect_left

# Seconds, from a decode step to a cold start.
SECONDS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0),
)
# Members of a batch.
SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)


class Histogram:
    """How often values fell at or under each of `bounds`, which rise; the last count is of all above."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...] = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Counts `value`, `times` over."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times

    @property
    def num_observed(self) -> int:
        """How many values were counted."""
        return sum(self.counts)

    def __repr__(self) -> str:
        return f"Histogram({self.num_observed} values, {self.total:g} in all)"
