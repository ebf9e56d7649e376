"""Starts a Multilora service as a process of its own, waits until it is ready, and stops it for certain.

Knows the command line and the ready line of a service; nothing of its RPCs.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

_READY = " listening on "
_TAIL_LINES = 30

# Longer than the services' own grace for a drain that finds nothing running.
_STOP_TIMEOUT_S = 15.0


class ServiceFailed(Exception):
    """A service ended, or did not get ready in time; the message holds the end of its log."""


class ServiceProcess:
    """One `multilora store` or `multilora serve`, with its log in a file.

    It leads a session of its own, so that Ctrl-C in the terminal reaches only the demo, which then stops it
    in order; and its whole group can be killed if that fails.
    """

    def __init__(self, name: str, arguments: Sequence[str], log_path: Path) -> None:
        self.name = name
        self.log_path = log_path
        self.address = ""
        self._arguments = tuple(arguments)
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, timeout_s: float) -> str:
        """Starts the service and returns its HOST:PORT once it is ready. Raises ServiceFailed."""
        with self.log_path.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "client.command", *self._arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        try:
            async with asyncio.timeout(timeout_s):
                self.address = await self._read_ready_line(self._process)
        except TimeoutError:
            raise ServiceFailed(self.with_log(f"{self.name} was not ready after {timeout_s:.0f} s")) from None
        return self.address

    async def _read_ready_line(self, process: asyncio.subprocess.Process) -> str:
        assert process.stdout is not None
        async for raw in process.stdout:
            line = raw.decode(errors="replace").strip()
            if _READY in line:
                return line.rpartition(_READY)[2]
        raise ServiceFailed(self.with_log(f"{self.name} ended with status {await process.wait()}"))

    async def wait_for_failure(self) -> None:
        """Returns never while the service runs; raises ServiceFailed when it ends."""
        assert self._process is not None
        status = await self._process.wait()
        raise ServiceFailed(self.with_log(f"{self.name} ended with status {status}"))

    async def stop(self) -> None:
        """Asks the service to stop, and kills its group if it does not. Safe to call at any time."""
        if self._process is None:
            return
        if self._process.returncode is None:
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), _STOP_TIMEOUT_S)
            except TimeoutError:
                print(f"{self.name} did not stop in {_STOP_TIMEOUT_S:.0f} s: killing it", file=sys.stderr)
        self.kill()

    def kill(self) -> None:
        """Ends at once whatever is left of the service and its children."""
        if self._process is None:
            return
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def cpu_s(self) -> float:
        """CPU seconds that the service's processes have used since they started."""
        assert self._process is not None
        ticks = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                # Past the name, which may hold anything: state ppid pgrp session ... utime stime.
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == self._process.pid:
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def with_log(self, message: str) -> str:
        """`message` and the last lines of the service's log."""
        lines = self.log_path.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
        return "\n".join([f"{message}; its log ends:", *(f"  {line}" for line in lines or ["(empty)"])])
