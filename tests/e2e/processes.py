"""Both services as real processes on free loopback ports, for end-to-end tests.

Ending them checks that nothing is left over: no request, no KV page, no pin, no temporary file.
"""

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from client import InferenceClient
from client.serving import Stats

READY = re.compile(r"listening on (\S+)$")


class Service:
    """One service process; its address once it said that it listens."""

    def __init__(self, module: str, log: Path, *flags: str) -> None:
        self._log = log
        temporary_dir = log.with_suffix(".tmp")
        temporary_dir.mkdir(exist_ok=True)
        with log.open("ab") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, *flags],
                stdout=subprocess.PIPE,
                stderr=sink,
                text=True,
                env={**os.environ, "TMPDIR": str(temporary_dir)},
            )
        self.temporary_dir = temporary_dir
        self.address = self._wait_ready()

    def _wait_ready(self) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            match = READY.search(line.strip())
            if match:
                threading.Thread(target=self.process.stdout.read, daemon=True).start()
                return match[1]
        self.process.wait()
        raise AssertionError(f"exit {self.process.returncode} before listening:\n{self._log.read_text()}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Sends `number` and waits; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout=60)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            if self.process.stdout is not None:
                self.process.stdout.close()


def children(pid: int) -> list[int]:
    """Processes that `pid` started and that still run."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def engine_of(service: Service) -> int:
    """The engine's process: the child that is not multiprocessing's resource tracker."""
    (engine,) = [
        child
        for child in children(service.process.pid)
        if b"resource_tracker" not in Path(f"/proc/{child}/cmdline").read_bytes()
    ]
    return engine


@dataclass(frozen=True, slots=True)
class Services:
    """A store and an inference service over it."""

    store: Service
    inference: Service


def start_store(data_dir: Path, *flags: str) -> Service:
    """An adapter store over `data_dir`; logs go beside it."""
    log = data_dir.parent / "store.log"
    return Service(
        "services.adapter_store", log, "--listen", "127.0.0.1:0", "--data-dir", str(data_dir), *flags
    )


def start_inference(model_dir: Path, store: str, log: Path, *flags: str) -> Service:
    """An inference service of `model_dir` on the CPU."""
    common = ("--listen", "127.0.0.1:0", "--model", str(model_dir), "--store", store, "--threads", "1")
    return Service("services.inference", log, *common, *flags)


@contextmanager
def running_services(work_dir: Path, model_dir: Path, *flags: str) -> Iterator[Services]:
    """Starts both, `flags` for inference, and stops both again; fails if anything is left over."""
    with (
        start_store(work_dir / "store") as store,
        start_inference(model_dir, store.address, work_dir / "serve.log", *flags) as inference,
    ):
        yield Services(store, inference)
        stats = asyncio.run(wait_idle(inference.address))
        assert stats.pool.kv_pages == 0, stats
        pinned = asyncio.run(pinned_adapters(inference.address))
        assert not pinned, f"pins left: {pinned}"
    for service in (store, inference):
        left = sorted(path.name for path in service.temporary_dir.iterdir())
        assert not left, f"temporary files left: {left}"


async def pinned_adapters(server: str) -> list[str]:
    """The versions that are pinned."""
    async with InferenceClient(server) as client:
        return [each.adapter_version for each in await client.list_resident_adapters() if each.pinned]


async def wait_idle(server: str) -> Stats:
    """The counters once no request runs or waits; streams that were cancelled end at the next step."""
    async with InferenceClient(server) as client:
        while True:
            stats = await client.get_stats()
            resident = await client.list_resident_adapters()
            users = sum(each.running_requests + each.waiting_requests for each in resident)
            if stats.running_requests + stats.queued_requests + users == 0:
                return stats
