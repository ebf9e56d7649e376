"""How long a loop waits for the interpreter while another thread runs Python. Must not know what loops do.

A turn stands for a step: it gives the interpreter up and wants it back a number of times.
"""

import statistics
import sys
import threading
import time
from dataclasses import dataclass

from benchmarks.churn_table import percentile

GIVEN_UP = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class LockRow:
    """Turns of a loop, in ms, at one switch interval."""

    busy_threads: int
    switch_interval_ms: float
    turn_p50_ms: float
    turn_p99_ms: float


def lock_waits(intervals_s: tuple[float, ...], num_turns: int) -> list[LockRow]:
    """Without a busy thread, then with one at each of `intervals_s`."""
    before_s = sys.getswitchinterval()
    try:
        return [_row(0, before_s, num_turns), *(_row(1, interval_s, num_turns) for interval_s in intervals_s)]
    finally:
        sys.setswitchinterval(before_s)


def _row(busy_threads: int, interval_s: float, num_turns: int) -> LockRow:
    sys.setswitchinterval(interval_s)
    done = threading.Event()

    def busy() -> None:
        while not done.is_set():
            sum(range(200))

    threads = [threading.Thread(target=busy) for _ in range(busy_threads)]
    for thread in threads:
        thread.start()
    try:
        turns_ms = [_turn_ms() for _ in range(num_turns)]
    finally:
        done.set()
        for thread in threads:
            thread.join()
    return LockRow(
        busy_threads=busy_threads,
        switch_interval_ms=interval_s * 1e3,
        turn_p50_ms=statistics.median(turns_ms),
        turn_p99_ms=percentile(turns_ms, 99),
    )


def _turn_ms() -> float:
    start_s = time.perf_counter()
    for _ in range(GIVEN_UP):
        time.sleep(0)
    return (time.perf_counter() - start_s) * 1e3
