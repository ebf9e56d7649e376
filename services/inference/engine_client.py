"""The asyncio side of the engine's pipe: requests out, their events back to whoever waits.

Two threads do the blocking reads and writes; all state is the event loop's. Must not know gRPC,
tokens' text, or what a stream does with its events.
"""

import asyncio
import itertools
import logging
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from services.common.errors import Code, Reason, ServiceError
from services.inference.engine_link import EngineLink
from services.inference.engine_port import EventSink
from services.inference.messages import (
    AdapterInfo,
    AdapterIoEnded,
    Cancel,
    Command,
    EngineMetrics,
    EngineStats,
    Event,
    Events,
    Failed,
    Finished,
    Freed,
    GetMetrics,
    GetStats,
    ListResident,
    LoadAdapter,
    Ready,
    Reply,
    ResidencyState,
    SetTenantQuota,
    Shutdown,
    Submit,
    UnloadAdapter,
)
from services.inference.request import AdapterKey, Request, ResolvedAdapter

log = logging.getLogger(__name__)

RETRY_AFTER_S = 5.0
T = TypeVar("T")


class EngineClient:
    """Speaks to one engine. Make it on a running event loop.

    `ready` is done when the engine takes requests, or failed with ServiceError if it never will.
    `died` is set once the engine is gone; every pending request and call has failed by then.
    `on_io` hears of adapter I/O of traced requests.
    """

    def __init__(self, link: EngineLink, on_io: Callable[[AdapterIoEnded], None] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._link = link
        self._on_io = on_io
        self._sinks: dict[str, EventSink] = {}
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._call_ids = itertools.count(1)
        self._outbox: queue.SimpleQueue[Command | None] = queue.SimpleQueue()
        # Why nothing is taken any more; None: it is.
        self._why_closed: Callable[[], ServiceError] | None = None
        self.ready: asyncio.Future[Ready] = self._loop.create_future()
        self.died = asyncio.Event()
        for name, target in (("engine-events", self._read), ("engine-commands", self._write)):
            threading.Thread(target=target, name=name, daemon=True).start()

    def submit(self, request: Request, sink: EventSink) -> None:
        """Runs `request`; its events go to `sink`. Raises ServiceError UNAVAILABLE if the engine is gone."""
        self._check_open()
        assert request.request_id not in self._sinks, "request ids are unique"
        self._sinks[request.request_id] = sink
        self._outbox.put(Submit(request))

    def cancel(self, request_id: str) -> None:
        """Drops the request: no further event reaches its sink. Nothing happens if it has ended."""
        self._drop(Cancel(request_id))

    def cut_off(self, why: Callable[[], ServiceError]) -> int:
        """Fails every request and call with `why()`, and takes no more; how many requests there were."""
        for request_id in self._sinks:
            self._outbox.put(Cancel(request_id))
        return self._close(why)

    def set_tenant_quota(self, tenant: str, max_resident_bytes: int) -> None:
        """What the tenant's adapters may hold of the pool, for all that is submitted from now on."""
        self._outbox.put(SetTenantQuota(tenant, max_resident_bytes))

    async def load(self, adapter: ResolvedAdapter, tier: ResidencyState, *, pin: bool) -> AdapterInfo:
        """Returns when the adapter has reached `tier`. Raises ServiceError."""
        return await self._call(AdapterInfo, lambda call_id: LoadAdapter(call_id, adapter, tier, pin))

    async def unload(self, key: AdapterKey, tenant: str, tier: ResidencyState) -> Freed:
        """Returns when the tenant's requests on it have ended and it holds no `tier`. Raises ServiceError."""
        return await self._call(Freed, lambda call_id: UnloadAdapter(call_id, key, tenant, tier))

    async def stats(self) -> EngineStats:
        """The engine's counters now."""
        return await self._call(EngineStats, GetStats)

    async def metrics(self) -> EngineMetrics:
        """The stats and the distributions now."""
        return await self._call(EngineMetrics, GetMetrics)

    async def list_resident(self) -> tuple[AdapterInfo, ...]:
        """The adapters the engine knows of, sorted by version name."""
        return await self._call(tuple, ListResident)

    async def shut_down(self, timeout_s: float = 5.0) -> None:
        """Ends the engine process, by force after `timeout_s`; leaves no process behind."""
        self._outbox.put(Shutdown())
        self._outbox.put(None)
        await self.end(timeout_s)
        await self.died.wait()

    async def end(self, timeout_s: float) -> int | None:
        """Waits for the process to end; its exit code, None if it had to be killed."""
        exit_code = await asyncio.to_thread(self._link.join, timeout_s)
        if exit_code is None:
            log.warning("the engine did not stop within %.0f s; killing it", timeout_s)
            await asyncio.to_thread(self._link.kill)
        return exit_code

    async def _call(self, kind: type[T], command: Callable[[int], Command]) -> T:
        self._check_open()
        call_id = next(self._call_ids)
        future = self._calls[call_id] = self._loop.create_future()
        self._outbox.put(command(call_id))
        try:
            value = await future
        finally:
            self._calls.pop(call_id, None)
        assert isinstance(value, kind), f"the engine answered {type(value).__name__}, not {kind.__name__}"
        return value

    def _check_open(self) -> None:
        if self._why_closed is not None:
            raise self._why_closed()

    def _drop(self, cancel: Cancel) -> None:
        if self._sinks.pop(cancel.request_id, None) is not None:
            self._outbox.put(cancel)

    def _deliver(self, events: Events) -> None:
        for event in events:
            self._deliver_one(event)

    def _deliver_one(self, event: Event) -> None:
        match event:
            case Ready():
                self.ready.set_result(event)
            case Failed(request_id="", error=error):
                self.ready.set_exception(error)
            case AdapterIoEnded():
                if self._on_io is not None:
                    self._on_io(event)
            case Reply(call_id=call_id, value=value):
                self._answer(call_id, value)
            case _:
                sink = self._sinks.get(event.request_id)
                if sink is None:
                    return
                if isinstance(event, Finished | Failed):
                    del self._sinks[event.request_id]
                if cancel := sink.put(event):
                    self._drop(cancel)

    def _answer(self, call_id: int, value: object) -> None:
        future = self._calls.get(call_id)
        if future is None or future.done():
            return
        if isinstance(value, ServiceError):
            future.set_exception(value)
        else:
            future.set_result(value)

    def _lose_engine(self) -> None:
        self.died.set()
        self._outbox.put(None)
        if not self.ready.done():
            self.ready.set_exception(_engine_down())
        self.ready.exception()  # seen, even if nobody waits for it
        self._close(_engine_down)

    def _close(self, why: Callable[[], ServiceError]) -> int:
        self._why_closed = why
        for future in self._calls.values():
            if not future.done():
                future.set_exception(why())
        sinks, self._sinks = self._sinks, {}
        for request_id, sink in sinks.items():
            sink.put(Failed(request_id, why()))
        return len(sinks)

    def _read(self) -> None:
        try:
            while True:
                self._on_loop(self._deliver, self._link.connection.recv())
        except (EOFError, OSError):
            self._on_loop(self._lose_engine)
        finally:
            self._link.connection.close()

    def _on_loop(self, function: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            log.debug("the event loop is closed; an event of the engine is dropped")

    def _write(self) -> None:
        while (command := self._outbox.get()) is not None:
            try:
                self._link.connection.send(command)
            except OSError:
                return  # the reader sees the end of the pipe and tells everybody

    def check_integrity(self) -> None:
        """Raises AssertionError unless no request and no call is left over."""
        assert not self._sinks, f"{len(self._sinks)} requests were not ended"
        assert not self._calls, f"{len(self._calls)} calls were not answered"

    def __repr__(self) -> str:
        state = "gone" if self.died.is_set() else "ready" if self.ready.done() else "starting"
        return f"EngineClient({state}, requests={len(self._sinks)}, calls={len(self._calls)})"


def _engine_down() -> ServiceError:
    return ServiceError(
        Code.UNAVAILABLE,
        Reason.ENGINE_DOWN,
        "the engine process is gone, and with it every request that ran or waited there: send this again, to "
        "another server if there is one",
        retry_after_s=RETRY_AFTER_S,
    )
