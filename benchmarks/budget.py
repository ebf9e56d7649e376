"""Time that may still be spent, and lines that say where a run is. Must not know what is measured."""

import time
from collections.abc import Callable


class Budget:
    """Counts down from `seconds`; `clock` gives seconds."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._start_s = clock()
        self._end_s = self._start_s + seconds

    @property
    def left_s(self) -> float:
        """Seconds that are left; negative when overdrawn."""
        return self._end_s - self._clock()

    def allows(self, seconds: float) -> bool:
        """Whether something that takes `seconds` would end in time."""
        return self.left_s > seconds

    def share(self, fraction: float) -> "Budget":
        """A budget of its own for `fraction` of what is left."""
        return Budget(self.left_s * fraction, self._clock)

    def say(self, text: str) -> None:
        """Prints `text` with the seconds spent and left."""
        print(f"[{self._clock() - self._start_s:6.1f} s, {self.left_s:6.1f} left] {text}", flush=True)
