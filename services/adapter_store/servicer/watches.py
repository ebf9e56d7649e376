"""Watch: streams changes to any number of watchers. Must not know what changes are about.

Each watcher goes through the table at its own pace and holds one batch at most, however slow it is; those
that are at the same place share what is read there.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable

from protos.multilora.v1 import adapter_store_pb2 as pb
from services.adapter_store.catalog.changes import Batch, Changes
from services.adapter_store.domain.resume_token import Position, encode
from services.adapter_store.metadata import ChangeSignal
from services.adapter_store.servicer import wire
from services.common.errors import Reason, unavailable

# Also how often the table is read whatever the signal says, so nothing waits longer than this.
HEARTBEAT_S = 5.0
POLL_S = 0.2
RETRY_AFTER_S = 0.2


class Watches:
    """The streams of one server. `close` ends them all, so that watchers go elsewhere."""

    def __init__(
        self,
        changes: Changes,
        signal: ChangeSignal,
        heartbeat_s: float = HEARTBEAT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._changes = changes
        self._signal = signal
        self._heartbeat_s = heartbeat_s
        self._clock = clock
        self._news = asyncio.Event()
        self._closing = False
        self._num_streams = 0
        self._listening = contextlib.ExitStack()
        self._readings: dict[tuple[asyncio.Event, Position, str | None], asyncio.Future[Batch]] = {}

    async def stream(self, resume_token: str, tenant: str | None) -> AsyncGenerator[pb.WatchResponse, None]:
        """Responses without end. Raises INVALID_FIELD, and DRAINING when the server stops."""
        self._check_open()
        self._enter()
        try:
            async for response in self._follow(resume_token, tenant):
                yield response
        finally:
            self._leave()

    def close(self) -> None:
        """Ends every stream with DRAINING."""
        self._closing = True
        self._wake()

    async def _follow(self, resume_token: str, tenant: str | None) -> AsyncGenerator[pb.WatchResponse, None]:
        batch = await asyncio.to_thread(self._changes.open, resume_token)
        yield _response(batch)
        said_all, said_s = batch.is_all, self._clock()
        while True:
            self._check_open()
            # Before the read: what is committed during it wakes the wait after it.
            news = self._news
            batch = await self._read(news, batch.position, tenant)
            is_due = self._clock() - said_s >= self._heartbeat_s
            if batch.changes or batch.is_reset or is_due or (batch.is_all and not said_all):
                yield _response(batch)
                said_all, said_s = batch.is_all, self._clock()
            if batch.is_all:
                rest_s = said_s + self._heartbeat_s - self._clock()
                await self._wait(news, rest_s if self._signal.is_live else min(rest_s, POLL_S))

    async def _read(self, news: asyncio.Event, position: Position, tenant: str | None) -> Batch:
        """One look at the table for all streams that are at the same place: a commit wakes them together.

        A look from before the last wake-up is for no other stream, which would miss what that one was about.
        """
        key = (news, position, tenant)
        reading = self._readings.get(key)
        if reading is None:
            reading = asyncio.ensure_future(asyncio.to_thread(self._changes.read, position, tenant))
            self._readings[key] = reading
            reading.add_done_callback(lambda _: self._forget(key))
        # Whoever leaves must not end it for the others.
        return await asyncio.shield(reading)

    def _forget(self, key: tuple[asyncio.Event, Position, str | None]) -> None:
        reading = self._readings.pop(key)
        if not reading.cancelled():
            reading.exception()  # everybody may have left

    async def _wait(self, news: asyncio.Event, timeout_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(news.wait(), max(timeout_s, 0.0))

    def _enter(self) -> None:
        loop = asyncio.get_running_loop()

        def ring() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(self._wake)

        # One listener for all streams: a commit wakes the loop once.
        if self._num_streams == 0:
            self._listening.enter_context(self._signal.listening(ring))
        self._num_streams += 1

    def _leave(self) -> None:
        self._num_streams -= 1
        if self._num_streams == 0:
            self._listening.close()

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _check_open(self) -> None:
        if self._closing:
            raise unavailable(
                Reason.DRAINING,
                "the store is shutting down: watch another replica, from the last resume_token",
                RETRY_AFTER_S,
            )

    def __repr__(self) -> str:
        return f"Watches({'closing' if self._closing else 'open'}, streams={self._num_streams})"


def _response(batch: Batch) -> pb.WatchResponse:
    return pb.WatchResponse(
        changes=[wire.change(change) for change in batch.changes],
        resume_token=encode(batch.position),
        reset=batch.is_reset,
        caught_up=batch.is_all,
    )
