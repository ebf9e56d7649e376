"""Says that there may be new changes. Must not know what they are: watchers read the table."""

import contextlib
import threading
from collections.abc import Callable, Iterator


class ChangeSignal:
    """Rung after each commit with changes, from any thread.

    `is_live` is False while commits of other replicas might go unheard: then watchers have to poll.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: list[Callable[[], None]] = []
        self.is_live = True

    @contextlib.contextmanager
    def listening(self, listener: Callable[[], None]) -> Iterator[None]:
        """`listener` is called at each ring, in the thread that rings: it must not wait."""
        with self._lock:
            self._listeners.append(listener)
        try:
            yield
        finally:
            with self._lock:
                self._listeners.remove(listener)

    def close(self) -> None:
        """Ends what listens for others."""

    def ring(self) -> None:
        """Tells every listener."""
        with self._lock:
            listeners = tuple(self._listeners)
        for listener in listeners:
            listener()
