"""Hears on PostgreSQL's NOTIFY of changes that any replica commits, and rings for them.

One connection and one thread a replica, from the first listener on. While the connection is lost the signal
is not live, so that watchers poll.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError

from services.adapter_store.metadata.change_rows import NOTIFY_CHANNEL
from services.adapter_store.metadata.change_signal import ChangeSignal

log = logging.getLogger(__name__)

# How often the thread looks whether it is to end.
TICK_S = 0.25
FIRST_RETRY_S = 0.1
LAST_RETRY_S = 2.0


class NotifySignal(ChangeSignal):
    """Rung for every replica's commits. `engine` makes the connection, which `close` ends."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.is_live = False
        self._engine = engine
        self._closing = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def listening(self, listener: Callable[[], None]) -> Iterator[None]:
        """See ChangeSignal."""
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="changes", daemon=True)
                self._thread.start()
        with super().listening(listener):
            yield

    def close(self) -> None:
        """Ends the connection and the thread."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
        self._engine.dispose()

    def _run(self) -> None:
        retry_s = FIRST_RETRY_S
        while not self._closing.is_set():
            was_live = False
            try:
                with contextlib.closing(self._engine.raw_connection()) as connection:
                    self._listen(connection.driver_connection)
            except Exception as error:
                was_live = self.is_live
                level = logging.WARNING if was_live else logging.DEBUG
                log.log(level, "changes of other replicas are not announced (%s): polling", _words(error))
            finally:
                self.is_live = False
            retry_s = FIRST_RETRY_S if was_live else min(2 * retry_s, LAST_RETRY_S)
            self._closing.wait(retry_s)

    def _listen(self, driver: Any) -> None:
        driver.autocommit = True
        driver.execute(f"LISTEN {NOTIFY_CHANNEL}")
        self.is_live = True
        # What was committed before is not announced, and watchers may have stopped polling just now.
        self.ring()
        while not self._closing.is_set():
            for _ in driver.notifies(timeout=TICK_S, stop_after=1):
                self.ring()


def _words(error: Exception) -> str:
    cause = error.orig if isinstance(error, DBAPIError) else error
    return type(cause).__name__
