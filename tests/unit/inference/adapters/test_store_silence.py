"""Who waits for a store that does not answer, and who no longer does."""

import asyncio

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from services.common.errors import Reason, ServiceError
from services.inference.adapters.store_silence import StoreSilence


class Store:
    """Questions that wait until the test says how they end."""

    def __init__(self):
        self.asked: list[asyncio.Future[str]] = []
        self._more = asyncio.Event()

    def question(self):
        self.asked.append(asyncio.get_running_loop().create_future())
        self._more.set()
        return self.asked[-1]

    async def reached(self, num_asked):
        while len(self.asked) < num_asked:
            self._more.clear()
            await self._more.wait()


async def answered():
    return "yes"


def failed(code=grpc.StatusCode.DEADLINE_EXCEEDED):
    return AioRpcError(code, Metadata(), Metadata())


@pytest.fixture
async def silence():
    silence = StoreSilence(pause_s=0.0)
    yield silence
    await silence.close()


async def silenced(silence, store):
    """One unknown answer was waited for in vain; the store is being asked again."""
    first = asyncio.create_task(silence.ask(store.question, is_known=False))
    await store.reached(1)
    store.asked[0].set_exception(failed())
    with pytest.raises(AioRpcError):
        await first
    await store.reached(2)


async def unavailable(call):
    with pytest.raises(ServiceError) as caught:
        await call
    return caught.value.reason is Reason.STORE_UNAVAILABLE


async def test_while_it_answers_everybody_is_told(silence):
    store = Store()
    call = asyncio.create_task(silence.ask(store.question, is_known=True))
    await store.reached(1)
    store.asked[0].set_result("yes")
    assert await call == "yes"
    assert repr(silence) == "StoreSilence(ANSWERING, calls=0, silences=0)"


async def test_the_first_timeout_releases_all_who_remember_an_answer(silence):
    store = Store()
    knows = [asyncio.create_task(silence.ask(store.question, is_known=True)) for _ in range(3)]
    does_not = asyncio.create_task(silence.ask(store.question, is_known=False))
    await store.reached(4)
    store.asked[0].set_exception(failed())
    with pytest.raises(AioRpcError):
        await knows[0]
    assert await unavailable(knows[1])
    assert await unavailable(knows[2])
    store.asked[3].set_result("late")
    assert await does_not == "late"
    assert silence.is_silent, "another call's answer says nothing of the one that timed out"
    assert silence.num_silences == 1


async def test_while_it_is_silent_who_remembers_does_not_ask_and_who_does_not_does(silence):
    store = Store()
    await silenced(silence, store)
    assert await unavailable(silence.ask(store.question, is_known=True))
    assert len(store.asked) == 2
    call = asyncio.create_task(silence.ask(store.question, is_known=False))
    await store.reached(3)
    store.asked[2].set_result("new")
    assert await call == "new"


@pytest.mark.parametrize("code", [grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE])
async def test_it_is_asked_again_until_it_answers(silence, code):
    store = Store()
    await silenced(silence, store)
    store.asked[1].set_exception(failed(code))
    await store.reached(3)
    assert silence.is_silent
    # A refusal is an answer.
    store.asked[2].set_exception(failed(grpc.StatusCode.NOT_FOUND))
    while silence.is_silent:
        await silence.ask(answered, is_known=False)
    call = asyncio.create_task(silence.ask(store.question, is_known=True))
    await store.reached(4)
    store.asked[3].set_result("again")
    assert await call == "again"


async def test_one_that_refuses_connections_is_not_silent(silence):
    store = Store()
    call = asyncio.create_task(silence.ask(store.question, is_known=True))
    await store.reached(1)
    store.asked[0].set_exception(failed(grpc.StatusCode.UNAVAILABLE))
    with pytest.raises(AioRpcError):
        await call
    assert not silence.is_silent


async def test_impatient_callers_do_not_hide_the_silence(silence):
    store = Store()
    call = asyncio.create_task(silence.ask(store.question, is_known=True))
    await store.reached(1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not store.asked[0].cancelled()
    store.asked[0].set_exception(failed())
    await store.reached(2)
    assert silence.is_silent
