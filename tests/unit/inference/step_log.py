"""A copy stream that writes down, in the order of the calls, what a device would be told to do."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class LoggedEvent:
    def __init__(self, log: "StepLog", name: str) -> None:
        self._log, self._name = log, name

    def record(self) -> None:
        self._log.add(f"record {self._name}")

    def wait(self) -> None:
        self._log.add(f"wait {self._name}")

    def synchronize(self) -> None:
        self._log.synchronize()


class StepLog:
    """A CopyStream; `lines` are what was launched, each with the stream it was launched on.

    The host waits for it only between `hold` and `let_go`.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.is_copying = False
        self.fails = False
        self.is_waited_for = threading.Event()
        self._done = threading.Event()
        self._done.set()
        self._num_gates = self._num_ends = 0

    def add(self, what: str) -> None:
        self.lines.append(f"{'copies' if self.is_copying else 'steps'}: {what}")

    def take(self) -> list[str]:
        lines, self.lines = self.lines, []
        return lines

    def hold(self) -> None:
        self._done.clear()

    def let_go(self) -> None:
        self._done.set()

    @contextmanager
    def behind_steps(self) -> Iterator[None]:
        self.is_copying = True
        self.add("wait for steps")
        try:
            yield
            if self.fails:
                raise RuntimeError("the device ran out of something")
        finally:
            self.is_copying = False

    def make_gate(self) -> LoggedEvent:
        self._num_gates += 1
        return LoggedEvent(self, f"gate {self._num_gates - 1}")

    def make_end(self) -> LoggedEvent:
        self._num_ends += 1
        return LoggedEvent(self, f"end {self._num_ends - 1}")

    def synchronize(self) -> None:
        self.is_waited_for.set()
        assert self._done.wait(30), "nobody let the device go on"
