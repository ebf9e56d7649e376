"""A few threads that share one piece of work at a time with the thread that asks. Must not know what work."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Workers:
    """`num_threads` work on a `map`, the caller's among them; 1 is the caller alone."""

    def __init__(self, num_threads: int) -> None:
        self._num_others = num_threads - 1
        self._threads = ThreadPoolExecutor(max(1, self._num_others), thread_name_prefix="pack")

    def map(self, function: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """`function` of every item, in order; the first exception is raised once nobody works any more.

        Threads gain where `function` gives up the interpreter lock: digests, reads, copies of arrays.
        """
        results: dict[int, R] = {}
        # Whoever is free takes the next: the iterator's own step is atomic.
        numbers = iter(range(len(items)))

        def work() -> None:
            for number in numbers:
                results[number] = function(items[number])

        others = [self._threads.submit(work) for _ in range(min(self._num_others, len(items) - 1))]
        try:
            work()
        finally:
            wait([other for other in others if not other.cancel()])
        for other in others:
            if not other.cancelled():
                other.result()
        return [results[number] for number in range(len(items))]

    def close(self) -> None:
        """Ends the threads; nothing may be under way."""
        self._threads.shutdown(wait=True)
