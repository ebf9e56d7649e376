"""Counts a server's calls, so that one that drains knows when nobody calls any more, and when all is done.

Health says at once that callers are to go elsewhere; what comes all the same is taken meanwhile.
Must not know any RPC.
"""

import asyncio
import contextlib
import inspect
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from typing import Any

# Callers that ask for health every two seconds, and believe the second answer, are gone by then.
LINGER_S = 6.0
# Nobody who called so long ago will call again before he knows.
QUIET_S = 1.0


class RunningCalls:
    """Of one server. Make it on a running event loop."""

    def __init__(
        self,
        linger_s: float = LINGER_S,
        quiet_s: float = QUIET_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._linger_s = linger_s
        self._quiet_s = quiet_s
        self._clock = clock
        self._num_running = 0
        self._last_s = float("-inf")
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    def counted(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        """`handler`, a coroutine function or an async generator function, whose calls are counted."""
        if not inspect.isasyncgenfunction(handler):

            async def answer(request: Any, context: Any) -> Any:
                with self._one():
                    return await handler(request, context)

            return answer

        async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
            with self._one():
                async with aclosing(handler(request, context)) as responses:
                    async for response in responses:
                        yield response

        return stream

    async def linger(self) -> None:
        """Returns when nothing runs and nothing has come for `quiet_s`, or after `linger_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._linger_s):
                while True:
                    await self._is_idle.wait()
                    rest_s = self._last_s + self._quiet_s - self._clock()
                    if rest_s <= 0:
                        return
                    await asyncio.sleep(rest_s)

    async def finish(self) -> None:
        """Returns when nothing runs."""
        await self._is_idle.wait()

    @contextlib.contextmanager
    def _one(self) -> Iterator[None]:
        self._num_running += 1
        self._is_idle.clear()
        self._last_s = self._clock()
        try:
            yield
        finally:
            self._num_running -= 1
            if not self._num_running:
                self._is_idle.set()

    def check_integrity(self) -> None:
        """Raises AssertionError unless nothing runs."""
        assert not self._num_running, f"{self._num_running} calls are still counted"
        assert self._is_idle.is_set(), "idle, but whoever waits for that would wait"

    def __repr__(self) -> str:
        return f"RunningCalls({self._num_running} running)"
