"""Keeps compositions between steps, so that a stable batch copies no weights.

Must not know rows of a batch. Never returns stale weights: a composition is found by the
generations that the RankRowTable gave its members' weights.
"""

from collections.abc import Sequence

from kernels.composition import Composition, composition_bytes, weights_of
from kernels.rank_row_table import RankRowTable


class CompositionCache:
    """The most recently used compositions, at most `max_compositions` of at most `max_bytes` in all.

    One that holds more adapters than asked for serves too, if it is at most `max_excess` times as
    large: so a batch that loses an adapter copies nothing.
    """

    def __init__(self, table: RankRowTable, max_bytes: int, max_compositions: int, max_excess: float) -> None:
        self._table = table
        self._max_bytes = max_bytes
        self._max_compositions = max_compositions
        self._max_excess = max_excess
        self._held: dict[frozenset[tuple[int, int]], Composition] = {}
        self._num_bytes = 0

    def __repr__(self) -> str:
        return f"CompositionCache(compositions={len(self._held)}, num_bytes={self._num_bytes})"

    def check_integrity(self) -> None:
        """Raises AssertionError if more is held than was reserved, or than the limits."""
        reserved = sum(composition.max_bytes for composition in self._held.values())
        assert self._num_bytes == reserved <= self._max_bytes, f"{self!r} of {reserved}"
        assert len(self._held) <= self._max_compositions, repr(self)
        for composition in self._held.values():
            assert composition.num_bytes <= composition.max_bytes, f"{composition.members} outgrew its bytes"

    def find(self, members: Sequence[int]) -> Composition | None:
        """A composition that holds all `members`; None if their weights are too large to copy."""
        key = weights_of(self._table, members)
        found = self._held.get(key) or self._build(key, members)
        if found is not None:
            self._held[found.weights] = self._held.pop(found.weights)
        return found

    def _build(self, key: frozenset[tuple[int, int]], members: Sequence[int]) -> Composition | None:
        num_bytes = composition_bytes(self._table, members)
        for held in self._held.values():
            if held.max_bytes <= self._max_excess * num_bytes and key <= held.weights:
                return held
        if 2 * num_bytes > self._max_bytes:
            return None
        while self._num_bytes + num_bytes > self._max_bytes or len(self._held) == self._max_compositions:
            dropped = self._held.pop(next(iter(self._held)))
            self._num_bytes -= dropped.max_bytes
        self._num_bytes += num_bytes
        built = self._held[key] = Composition(self._table, members, num_bytes)
        return built
