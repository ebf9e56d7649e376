"""The demo's two services and its adapters: what the demo, `make serve` and `make bench` run on."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from client import AdapterVersion, StoreClient
from demo.processes import ServiceProcess
from demo.tasks import TASKS

HERE = Path(__file__).resolve().parent
MODEL = HERE / "model"
ADAPTERS = HERE / "adapters"

BASE_MODEL = "demo/model"
TENANT = "acme"
ALIAS = "production"

_STORE_READY_S = 30.0
# Importing torch and warming the model up take seconds; a machine's first start may take many.
_SERVE_READY_S = 120.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Stack:
    """Two running services."""

    store: ServiceProcess
    server: ServiceProcess

    async def wait_for_failure(self) -> None:
        """Returns never while both run; raises ServiceFailed when one ends."""
        watches = [asyncio.create_task(each.wait_for_failure()) for each in (self.store, self.server)]
        try:
            done, _ = await asyncio.wait(watches, return_when=asyncio.FIRST_COMPLETED)
            await done.pop()
        finally:
            for watch in watches:
                watch.cancel()


def adapter_name(directory: str) -> str:
    """The name that the adapter in `demo/adapters/{directory}` is published under."""
    return f"{TENANT}/{directory}"


@asynccontextmanager
async def running_stack(say: Say, *, fixed_ports: bool = False) -> AsyncIterator[Stack]:
    """Both services on free loopback ports (the default ones if asked for and free), stopped on the way out.

    Raises ServiceFailed with the log's end if one does not start.
    """
    with tempfile.TemporaryDirectory(prefix="multilora-") as temporary:
        directory = Path(temporary)
        store = ServiceProcess(
            "the adapter store", _store_arguments(directory, fixed_ports), directory / "store.log"
        )
        started = [store]
        try:
            await store.start(_STORE_READY_S)
            say(f"adapter store   {store.address}   SQLite and blobs in {directory}")
            arguments = serve_arguments(store.address, directory, fixed_ports)
            server = ServiceProcess("the inference service", arguments, directory / "serve.log")
            started.append(server)
            await server.start(_SERVE_READY_S)
            say(f"inference       {server.address}   base model {MODEL.relative_to(HERE.parent)}, CPU")
            yield Stack(store, server)
        finally:
            try:
                await asyncio.gather(*(each.stop() for each in reversed(started)))
            finally:
                for each in started:
                    each.kill()


def _store_arguments(directory: Path, fixed_ports: bool) -> tuple[str, ...]:
    return ("store", "--data-dir", str(directory / "store"), "--listen", _address(7001, fixed_ports))


def serve_arguments(store: str, directory: Path, fixed_ports: bool) -> tuple[str, ...]:
    """The command line of an inference service on the demo's model, its cache in `directory`."""
    return (
        *("serve", "--model", str(MODEL), "--base-model", BASE_MODEL, "--store", store, "--device", "cpu"),
        *("--listen", _address(7000, fixed_ports), "--cache-dir", str(directory / "cache")),
    )


def _address(port: int, fixed: bool) -> str:
    return f"127.0.0.1:{port if fixed and _is_free(port) else 0}"


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


async def publish_adapters(stack: Stack, say: Say) -> list[AdapterVersion]:
    """Uploads every demo adapter through the store's RPCs, its alias on the new version; all at once."""
    async with StoreClient(stack.store.address) as store:

        async def publish(directory: str) -> AdapterVersion:
            name = adapter_name(directory)
            version = await store.push(ADAPTERS / directory, name, base_model=BASE_MODEL, alias=ALIAS)
            say(
                f"published       {name}@{version.version}   rank {version.rank:>2}, {version.size_bytes:,} B"
            )
            return version

        return await asyncio.gather(*(publish(task.adapter) for task in TASKS))
