"""Sequences in their order, found without looking at each.

Must not know why they are in a queue.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator
from itertools import islice

from services.inference.sequence import Sequence


def _order(sequence: Sequence) -> tuple[int, int]:
    return sequence.order


class SequenceQueue:
    """Sequences by `order`, which no two share."""

    def __init__(self) -> None:
        self._sequences: list[Sequence] = []
        self._members: set[Sequence] = set()

    def add(self, sequence: Sequence) -> None:
        """Puts `sequence` in its place."""
        insort(self._sequences, sequence, key=_order)
        self._members.add(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Takes `sequence`, which must be there, out."""
        self._members.remove(sequence)
        del self._sequences[self._index(sequence)]

    def since(self, first: Sequence, count: int) -> list[Sequence]:
        """`first`, which must be there, and those behind it, at most `count` in all."""
        begin = self._index(first)
        return self._sequences[begin : begin + count]

    def ahead_of(self, sequence: Sequence) -> Iterator[Sequence]:
        """Those that go before `sequence`, which may be elsewhere."""
        return islice(self._sequences, self._index(sequence))

    def _index(self, sequence: Sequence) -> int:
        return bisect_left(self._sequences, sequence.order, key=_order)

    def __contains__(self, sequence: Sequence) -> bool:
        return sequence in self._members

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self._sequences)

    def __reversed__(self) -> Iterator[Sequence]:
        return reversed(self._sequences)

    def __len__(self) -> int:
        return len(self._sequences)

    def check_integrity(self) -> None:
        """Raises AssertionError unless each is there once, and in its place."""
        orders = [sequence.order for sequence in self._sequences]
        assert orders == sorted(set(orders)), "a queue is out of order"
        assert set(self._sequences) == self._members, "a queue's members are not those in it"

    def __repr__(self) -> str:
        return f"SequenceQueue({len(self)})"
