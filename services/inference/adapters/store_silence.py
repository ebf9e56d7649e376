"""Whether the store has gone silent: it takes calls and does not answer them.

    ANSWERING -> SILENT when a call times out, and back when the same call, made again and again, is answered

While it is silent, and from that moment for calls that wait already, nobody waits who remembers an answer.
Must not know what is asked, nor what is remembered.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc

from services.inference.adapters.store_errors import store_unavailable

log = logging.getLogger(__name__)

T = TypeVar("T")

# Between two calls that find out whether the store answers again.
PAUSE_S = 1.0
_NO_ANSWER = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)


class StoreSilence:
    """Of one store, for one event loop. `close` ends its calls."""

    def __init__(self, pause_s: float = PAUSE_S) -> None:
        self._pause_s = pause_s
        self._began: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._calls: set[asyncio.Task[Any]] = set()
        self._again: asyncio.Task[None] | None = None
        self.num_silences = 0

    @property
    def is_silent(self) -> bool:
        """Whether a call timed out, and none like it was answered since."""
        return self._began.done()

    async def ask(self, question: Callable[[], Awaitable[T]], *, is_known: bool) -> T:
        """What the call `question` answers. Raises grpc.RpcError as it does.

        STORE_UNAVAILABLE where the answer `is_known` from before and the store is, or falls, silent. A call
        that is given up by who waits runs on to its own timeout, so that silence is noticed however impatient
        callers are.
        """
        if is_known and self.is_silent:
            raise store_unavailable("it is silent")
        call = asyncio.create_task(self._noted(question))
        self._calls.add(call)
        call.add_done_callback(self._end)
        ends: set[asyncio.Future[Any]] = {call, self._began} if is_known else {call}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if not call.done():
            raise store_unavailable("it is silent")
        return call.result()

    async def close(self) -> None:
        """Ends the calls that run."""
        tasks = [*self._calls, *([] if self._again is None else [self._again])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _noted(self, question: Callable[[], Awaitable[T]]) -> T:
        try:
            return await question()
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and not self.is_silent:
                self._fall_silent(question)
            raise

    def _fall_silent(self, question: Callable[[], Awaitable[object]]) -> None:
        self.num_silences += 1
        self._began.set_result(None)
        self._again = asyncio.create_task(self._ask_again(question))
        log.warning("the adapter store is silent: what is remembered serves, and it is asked again meanwhile")

    async def _ask_again(self, question: Callable[[], Awaitable[object]]) -> None:
        while True:
            await asyncio.sleep(self._pause_s)
            try:
                await question()
            except grpc.RpcError as error:
                if error.code() in _NO_ANSWER:
                    continue
            except Exception:
                log.exception("the adapter store's answer cannot be taken")
            break
        self._began = asyncio.get_running_loop().create_future()
        log.info("the adapter store answers again")

    def _end(self, call: asyncio.Task[Any]) -> None:
        self._calls.discard(call)
        if not call.cancelled():
            call.exception()  # seen, even if nobody waits for it any more

    def __repr__(self) -> str:
        state = "SILENT" if self.is_silent else "ANSWERING"
        return f"StoreSilence({state}, calls={len(self._calls)}, silences={self.num_silences})"
