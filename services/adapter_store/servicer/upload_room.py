"""How many upload streams may hold memory at once, and how slow one may be while it does.

Who finds no room waits, and one tenant gets two thirds of it at most. A stream that brings next to nothing
gives its place to others: what it sent is kept, and it may come again. Knows no bytes.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from time import monotonic
from typing import TypeVar

from services.common.errors import Reason, ServiceError, unavailable
from services.common.tenant_shares import TenantShares

WAIT_S = 60.0
PERIOD_S = 30.0
LEAST_BYTES_A_PERIOD = 64 << 10

T = TypeVar("T")


class UploadRoom:
    """Places for `max_streams`; 0: there is always room, and no hurry."""

    def __init__(self, max_streams: int, wait_s: float = WAIT_S, period_s: float = PERIOD_S) -> None:
        self._places = asyncio.Semaphore(max_streams) if max_streams else None
        self._shares = TenantShares(max(1, max_streams * 2 // 3))
        self._wait_s = wait_s
        self._period_s = period_s

    @contextlib.asynccontextmanager
    async def place(self, tenant: str) -> AsyncIterator["Pace"]:
        """A place for the length of the `async with`. Raises STORE_UNAVAILABLE if none gets free in time."""
        if self._places is None:
            yield Pace(None)
            return
        share = self._shares.of(tenant)
        async with contextlib.AsyncExitStack() as held:
            try:
                async with asyncio.timeout(self._wait_s):
                    # The tenant's own first: who has enough of them must not stand before others.
                    await held.enter_async_context(share)
                    await held.enter_async_context(self._places)
            except TimeoutError as error:
                raise _no_room() from error
            yield Pace(self._period_s)


class Pace:
    """Watches one stream's messages, once `period_s` has passed without enough bytes."""

    def __init__(self, period_s: float | None, now: Callable[[], float] = monotonic) -> None:
        self._period_s = period_s
        self._now = now
        self._begin = now()
        self._num_bytes = 0

    def note(self, num_bytes: int) -> None:
        """Bytes that have come. Raises STORE_UNAVAILABLE if they were too few for too long."""
        self._num_bytes += num_bytes
        if self._period_s is None or self._now() - self._begin < self._period_s:
            return
        if self._num_bytes < LEAST_BYTES_A_PERIOD:
            raise _too_slow()
        self._begin, self._num_bytes = self._now(), 0

    async def next(self, messages: AsyncIterator[T]) -> T | None:
        """The next message, or None at the end. Raises STORE_UNAVAILABLE if none comes for a period."""
        try:
            return await asyncio.wait_for(anext(messages, None), self._period_s)
        except TimeoutError as error:
            raise _too_slow() from error


def _no_room() -> ServiceError:
    return unavailable(
        Reason.STORE_UNAVAILABLE,
        "the store is taking as many files as its memory allows: resume in a moment",
        retry_after_s=5.0,
    )


def _too_slow() -> ServiceError:
    return unavailable(
        Reason.STORE_UNAVAILABLE,
        "the stream was too slow to keep its place: what came is kept, resume from there",
        retry_after_s=1.0,
    )
