"""The spawned engine process and our end of its pipe.

Must not know messages: the engine client speaks them.
"""

import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Protocol

from services.inference.settings import Settings


class EngineLink(Protocol):
    """A running engine: where to send commands and read events, and how to see it gone."""

    @property
    def connection(self) -> Connection:
        """Our end of the pipe; reading it ends with EOFError when the engine is gone."""
        ...

    def join(self, timeout_s: float) -> int | None:
        """Waits for the end of the engine; its exit code, or None if it still runs."""
        ...

    def kill(self) -> None:
        """Ends the engine without asking."""
        ...


class SpawnedEngine:
    """The engine in a process of its own, which is gone when this one is."""

    def __init__(self, settings: Settings, run: Callable[[Settings, Connection], None]) -> None:
        # A forked child would inherit gRPC's threads' locks in whatever state they are.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_run_undisturbed, args=(run, settings, theirs), name="engine", daemon=True
        )
        self._process.start()
        # Ours must be the only other end, or the engine's death would not close the pipe.
        theirs.close()

    def join(self, timeout_s: float) -> int | None:
        """Waits for the end of the process; its exit code (negative: the signal), None if it still runs."""
        self._process.join(timeout_s)
        return self._process.exitcode

    def kill(self) -> None:
        """SIGKILL, then waits for the process to be gone."""
        self._process.kill()
        self._process.join()


def run_engine_process(settings: Settings, connection: Connection) -> None:
    """What the engine's process runs; keeps torch out of the front end, which has no use for it."""
    from services.inference.engine_process import run_engine

    run_engine(settings, connection)


def _run_undisturbed(
    run: Callable[[Settings, Connection], None], settings: Settings, connection: Connection
) -> None:
    # Ctrl-C, and a supervisor's SIGTERM to the whole group, reach us too: the front end drains first.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    run(settings, connection)
