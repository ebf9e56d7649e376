"""The parts of a deployment as things that can be killed and started again on the same address."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

READY = re.compile(r"listening on (\S+)$")


class Part(Protocol):
    """What can be killed. `start` returns when it serves again."""

    def start(self) -> None:
        """Starts it where it was."""
        ...

    def kill(self) -> None:
        """SIGKILL."""
        ...


class ServicePart:
    """One service process; after its first start it keeps the port it was given."""

    def __init__(
        self, module: str, log: Path, flags: Sequence[str], environ: Mapping[str, str] | None = None
    ) -> None:
        self._module = module
        self._log = log
        self._flags = tuple(flags)
        self._environ = {**os.environ, **(environ or {})}
        self.address = "127.0.0.1:0"
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Starts the service and waits until it says that it listens."""
        command = [sys.executable, "-m", self._module, "--listen", self.address, *self._flags]
        with self._log.open("ab") as sink:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=sink, text=True, env=self._environ
            )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            match = READY.search(line.strip())
            if match:
                self.address = match[1]
                threading.Thread(target=self.process.stdout.read, daemon=True).start()
                return
        raise AssertionError(f"exit {self.process.wait()} before listening:\n{self._log.read_text()[-4000:]}")

    def kill(self) -> None:
        """SIGKILL, and waits until it is gone."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        if self.process is None:
            return 0
        self.process.send_signal(number)
        status = self.process.wait(timeout=60)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.process = None
        return status
