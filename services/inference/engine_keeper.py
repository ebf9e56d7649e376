"""The engine, whichever process it is: where one crashes it starts another, until they crash too often.

    STARTING -> SERVING -> LOST -> STARTING ...      and from LOST to GIVEN UP

What a crash does to the requests of that process is `engine_client`'s. Must not know gRPC or requests.
"""

import asyncio
import logging
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from services.common.errors import ServiceError
from services.inference.engine_client import EngineClient
from services.inference.engine_link import EngineLink
from services.inference.engine_port import EventSink
from services.inference.messages import (
    AdapterInfo,
    AdapterIoEnded,
    EngineMetrics,
    EngineStats,
    Freed,
    Ready,
    ResidencyState,
)
from services.inference.request import AdapterKey, Request, ResolvedAdapter

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.5
LAST_PAUSE_S = 30.0
# An engine that has served for so long is sound: the crashes before it count no more.
SOUND_S = 600.0
# A process that closed its pipe is over, but for giving back what it held of the device.
END_TIMEOUT_S = 30.0


class EngineListener(Protocol):
    """Hears when there is an engine, and when not."""

    async def engine_lost(self, why: str) -> None:
        """It takes nothing any more; `why` is for callers. Again, when more is known."""
        ...

    async def engine_ready(self, ready: Ready) -> None:
        """It takes requests. No adapter is loaded or pinned."""
        ...


class EngineGivenUpError(Exception):
    """No further engine is started; the text says why."""


class EngineKeeper:
    """An EnginePort. Make it on a running event loop; while `keep` runs, another engine follows a crash.

    `num_restarts` counts those that followed, since the start of the service.
    """

    def __init__(
        self,
        start: Callable[[], EngineLink],
        max_restarts: int,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        on_io: Callable[[AdapterIoEnded], None] | None = None,
    ) -> None:
        self._start = start
        self._max_restarts = max_restarts
        self._on_io = on_io
        self._clock = clock
        self._pause = pause
        self._num_crashes = 0
        self.num_restarts = 0
        self._quotas: dict[str, int] = {}
        self._link = start()
        self._client = EngineClient(self._link, self._on_io)

    async def keep(self, listener: EngineListener) -> None:
        """Until it is cancelled. Raises ServiceError if the first engine cannot be started,
        EngineGivenUpError when one has crashed too often."""
        await listener.engine_ready(await asyncio.shield(self._client.ready))
        while True:
            since_s = self._clock()
            await self._client.died.wait()
            await listener.engine_lost("the engine process has crashed and is being started again")
            if self._clock() - since_s >= SOUND_S:
                self._num_crashes = 0
            await listener.engine_ready(await self._start_again(listener))

    async def _start_again(self, listener: EngineListener) -> Ready:
        while True:
            how = describe_exit(await self._client.end(END_TIMEOUT_S))
            pause_s = self._count_crash(how)
            await listener.engine_lost(f"the engine process has crashed ({how}) and is being started again")
            await self._pause(pause_s)
            self._replace()
            try:
                return await asyncio.shield(self._client.ready)
            except ServiceError as error:
                log.error("the engine could not be started again: %s", error.message)

    def _count_crash(self, how: str) -> float:
        """Seconds to wait before the next start. Raises EngineGivenUpError if there is to be none."""
        self._num_crashes += 1
        if self._num_crashes > self._max_restarts:
            raise EngineGivenUpError(
                f"the engine process is gone ({how}), and was started again {self._max_restarts} times since "
                "one last served for ten minutes, which is the most (--max-engine-restarts): what it logged "
                "before says why"
            )
        pause_s = min(FIRST_PAUSE_S * 2.0 ** (self._num_crashes - 1), LAST_PAUSE_S)
        log.error(
            "the engine process is gone (%s): starting it again in %.1f s, time %d of %d",
            *(how, pause_s, self._num_crashes, self._max_restarts),
        )
        return pause_s

    def _replace(self) -> None:
        self.num_restarts += 1
        self._link = self._start()
        self._client = EngineClient(self._link, self._on_io)
        # What was said once to the one before holds for this one too.
        for tenant, max_resident_bytes in self._quotas.items():
            self._client.set_tenant_quota(tenant, max_resident_bytes)

    def submit(self, request: Request, sink: EventSink) -> None:
        """See EnginePort."""
        self._client.submit(request, sink)

    def cancel(self, request_id: str) -> None:
        """See EnginePort."""
        self._client.cancel(request_id)

    def set_tenant_quota(self, tenant: str, max_resident_bytes: int) -> None:
        """See EnginePort; holds for every engine to come."""
        if max_resident_bytes:
            self._quotas[tenant] = max_resident_bytes
        else:
            self._quotas.pop(tenant, None)
        self._client.set_tenant_quota(tenant, max_resident_bytes)

    async def load(self, adapter: ResolvedAdapter, tier: ResidencyState, *, pin: bool) -> AdapterInfo:
        """See EnginePort."""
        return await self._client.load(adapter, tier, pin=pin)

    async def unload(self, key: AdapterKey, tenant: str, tier: ResidencyState) -> Freed:
        """See EnginePort."""
        return await self._client.unload(key, tenant, tier)

    async def stats(self) -> EngineStats:
        """See EnginePort."""
        return await self._client.stats()

    async def metrics(self) -> EngineMetrics:
        """See EnginePort."""
        return await self._client.metrics()

    async def list_resident(self) -> tuple[AdapterInfo, ...]:
        """See EnginePort."""
        return await self._client.list_resident()

    async def list_held(self) -> tuple[AdapterInfo, ...]:
        """As `list_resident`, and nothing while there is no engine: then none holds anything."""
        return () if self.is_lost else await self._client.list_resident()

    @property
    def is_lost(self) -> bool:
        """Whether there is no engine process at the moment."""
        return self._client.died.is_set()

    def cut_off(self, why: Callable[[], ServiceError]) -> int:
        """Fails all that runs or waits, and whatever comes, with `why()`; how many requests there were."""
        return self._client.cut_off(why)

    async def shut_down(self) -> None:
        """Ends the engine process; leaves none behind. Not while `keep` runs."""
        await self._client.shut_down()

    def check_integrity(self) -> None:
        """Raises AssertionError unless no request and no call is left over."""
        self._client.check_integrity()
        assert self._num_crashes <= self._max_restarts + 1, f"{self._num_crashes} crashes"

    def __repr__(self) -> str:
        return f"EngineKeeper({self._client!r}, crashes={self._num_crashes})"


def describe_exit(exit_code: int | None) -> str:
    """How a process ended, in a few words; None: it had to be killed."""
    if exit_code is None:
        return "it hung and was killed"
    if exit_code >= 0:
        return f"exit code {exit_code}"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    return f"killed by {name}"
