"""Stand-ins for the parts on the other side of a port: an engine, an adapter store."""

import asyncio
import hashlib
import multiprocessing
import os
import queue
import socket
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence

from services.common.caller import Caller
from services.common.errors import Code, Reason, ServiceError
from services.common.gate import bad_token
from services.inference.messages import (
    Command,
    Event,
    Events,
    Finished,
    Ready,
    Shutdown,
    Started,
    Submit,
    Tokens,
)
from services.inference.model.config import ModelConfig
from services.inference.request import AdapterFile, AdapterKey, FinishReason, Request, ResolvedAdapter
from services.inference.resolution import Resolution, ShadowTarget, StoreStats
from services.inference.signing_rules import SigningRules
from services.inference.tenant_directory import TenantSettings
from services.inference.tenant_traffic import TenantQuotas

READY = Ready(num_pages=64, page_bytes=4096, max_context_tokens=256)

Script = Callable[[Command], Iterable[Events]]


def silent(command: Command) -> Iterable[Events]:
    """Says nothing: the test sends the events."""
    return ()


def generate(token_ids: Iterable[int], reason: FinishReason = FinishReason.LENGTH) -> Script:
    """Answers every Submit with these tokens, one a step, then Finished."""

    def script(command: Command) -> Iterable[Events]:
        if isinstance(command, Submit):
            request_id = command.request.request_id
            yield (Started(request_id, 0, 0.25, 0.5),)
            for token_id in token_ids:
                yield (Tokens(request_id, (token_id,)),)
            yield (Finished(request_id, reason),)

    return script


class FakeEngine:
    """The engine's end of the pipe, in a thread of this process; also the EngineLink to it.

    Answers each command with what `script` yields, and keeps every command for `next_command`.
    """

    def __init__(self, script: Script = silent, ready: Event | None = READY) -> None:
        self.connection, self._theirs = multiprocessing.Pipe()
        self._script = script
        self._commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="fake-engine", daemon=True)
        self.exit_code: int | None = None
        if ready is not None:
            self.send(ready)
        self._thread.start()

    def send(self, *events: Event) -> None:
        """Sends one step's events."""
        self._theirs.send(events)

    async def next_command(self) -> Command:
        """The next command that arrived; waits for it."""
        return await asyncio.to_thread(self._commands.get, timeout=10)

    async def next_request(self) -> Request:
        """The request of the next command, which must be a Submit."""
        command = await self.next_command()
        assert isinstance(command, Submit), command
        return command.request

    def die(self) -> None:
        """Closes the pipe without a word, as a killed process does."""
        with socket.socket(fileno=os.dup(self._theirs.fileno())) as pipe:
            # A plain close would leave the blocked read, and with it the pipe, open.
            pipe.shutdown(socket.SHUT_RDWR)

    def join(self, timeout_s: float) -> int | None:
        self._thread.join(timeout_s)
        return self.exit_code

    def kill(self) -> None:
        self.die()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not isinstance(command := self._theirs.recv(), Shutdown):
                self._commands.put(command)
                for events in self._script(command):
                    self._theirs.send(events)
            self.exit_code = 0
        except (EOFError, OSError):
            self.exit_code = -9
        finally:
            self._theirs.close()


def adapter(version_name: str, rank: int = 8) -> ResolvedAdapter:
    """A version with a key of its own and one file."""
    digest = hashlib.sha256(version_name.encode()).hexdigest()
    return ResolvedAdapter(
        AdapterKey(digest), version_name, rank, (AdapterFile("adapter_model.safetensors", 1, digest),)
    )


class FakeStore:
    """An adapter store that knows `adapters` by the names given, and forgets nothing it was told.

    `failures` are raised first, one a call of `register_base_model`.
    """

    def __init__(
        self, adapters: Mapping[str, ResolvedAdapter] | None = None, failures: Iterable[ServiceError] = ()
    ) -> None:
        self._adapters = dict(adapters or {})
        self._failures = list(failures)
        self.resolved: list[str] = []
        self.registered: list[tuple[str, str, int]] = []
        self.is_closed = False
        self.callers: dict[str, Caller] = {}
        self.quotas: dict[str, TenantQuotas] = {}
        self.rules: dict[str, SigningRules] = {}
        self.leases: dict[str, list[str]] = {}
        self.targets: dict[str, tuple[tuple[int, int], ...]] = {}
        self.shadows: dict[str, ShadowTarget] = {}

    async def resolve(self, name: str, split_key: str = "") -> Resolution:
        self.resolved.append(name)
        if name not in self._adapters:
            raise ServiceError(Code.NOT_FOUND, Reason.ADAPTER_NOT_FOUND, f"no adapter {name}")
        return Resolution(self._adapters[name], self.targets.get(name, ()), self.shadows.get(name))

    def stats(self) -> StoreStats:
        return StoreStats(True, 0.0, 0, 0, len(self.resolved), 0)

    async def watch(self, listeners: Iterable[object] = ()) -> None:
        await asyncio.Event().wait()

    async def register_base_model(self, name: str, digest: str, config: ModelConfig, max_rank: int) -> None:
        if self._failures:
            raise self._failures.pop(0)
        self.registered.append((name, digest, max_rank))

    async def tenant(self, name: str, *, is_known: bool = False) -> TenantSettings:
        return TenantSettings(self.quotas.get(name, TenantQuotas()), self.rules.get(name, SigningRules()))

    async def authenticate(self, secret: str, *, is_known: bool = False) -> Caller:
        if secret not in self.callers:
            raise bad_token("it is not known here")
        return self.callers[secret]

    async def acquire_lease(self, lease_id: str, holder: str, keys: Sequence[str], ttl_s: int) -> None:
        self.leases[lease_id] = list(keys)

    async def release_lease(self, lease_id: str) -> None:
        self.leases.pop(lease_id, None)

    async def close(self) -> None:
        self.is_closed = True
