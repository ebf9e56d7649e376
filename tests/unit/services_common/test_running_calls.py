"""RunningCalls: when a server that drains may stop taking calls, and when all have ended."""

import asyncio
from contextlib import aclosing

import pytest

from services.common.running_calls import RunningCalls


class Handlers:
    """One of each kind; they end when they are let."""

    def __init__(self):
        self.go_on = asyncio.Event()
        self.began = asyncio.Event()

    async def unary(self, request, context):
        self.began.set()
        await self.go_on.wait()
        return request

    async def stream(self, request, context):
        yield request
        self.began.set()
        await self.go_on.wait()
        yield request


async def read(stream):
    return [each async for each in stream]


async def test_what_handlers_answer_is_passed_on():
    calls, handlers = RunningCalls(), Handlers()
    handlers.go_on.set()
    assert await calls.counted(handlers.unary)("a", None) == "a"
    assert await read(calls.counted(handlers.stream)("b", None)) == ["b", "b"]
    calls.check_integrity()


@pytest.mark.parametrize("kind", ["unary", "stream"])
async def test_finish_waits_for_what_runs(kind):
    calls, handlers = RunningCalls(), Handlers()
    await calls.finish()
    answer = calls.counted(getattr(handlers, kind))("a", None)
    running = asyncio.ensure_future(answer if kind == "unary" else read(answer))
    await handlers.began.wait()
    finishing = asyncio.create_task(calls.finish())
    await asyncio.sleep(0)
    assert not finishing.done()
    assert repr(calls) == "RunningCalls(1 running)"
    handlers.go_on.set()
    await finishing
    await running
    calls.check_integrity()


async def test_a_stream_that_is_left_counts_no_more():
    calls, handlers = RunningCalls(), Handlers()
    async with aclosing(calls.counted(handlers.stream)("a", None)) as stream:
        assert await anext(stream) == "a"
        assert repr(calls) == "RunningCalls(1 running)"
    calls.check_integrity()


async def test_who_was_called_by_nobody_lately_does_not_linger():
    now_s = 100.0
    calls, handlers = RunningCalls(linger_s=3600, quiet_s=1.0, clock=lambda: now_s), Handlers()
    handlers.go_on.set()
    await calls.linger()
    await calls.counted(handlers.unary)("a", None)
    now_s += 1.0
    await asyncio.wait_for(calls.linger(), 10)


async def test_lingers_until_nothing_runs_or_comes():
    now_s = 100.0
    calls, handlers = RunningCalls(linger_s=3600, quiet_s=0.01, clock=lambda: now_s), Handlers()
    running = asyncio.create_task(calls.counted(handlers.unary)("a", None))
    await handlers.began.wait()
    lingering = asyncio.create_task(calls.linger())
    now_s += 1.0
    await asyncio.sleep(0)
    assert not lingering.done()
    handlers.go_on.set()
    await running
    await asyncio.wait_for(lingering, 10)


async def test_does_not_linger_for_ever():
    calls, handlers = RunningCalls(linger_s=0.01), Handlers()
    running = asyncio.create_task(calls.counted(handlers.unary)("a", None))
    await handlers.began.wait()
    await asyncio.wait_for(calls.linger(), 10)
    assert not running.done()
    handlers.go_on.set()
    await running
