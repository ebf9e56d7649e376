"""EngineClient: events to the right place, calls answered, and what happens when the engine dies."""

import asyncio
from dataclasses import replace

import pytest

from services.common.errors import Code, Reason, ServiceError
from services.inference.engine_client import EngineClient
from services.inference.messages import (
    AdapterInfo,
    Cancel,
    Failed,
    Finished,
    Freed,
    GetStats,
    ListResident,
    LoadAdapter,
    Reply,
    ResidencyState,
    Started,
    Submit,
    Tokens,
    UnloadAdapter,
)
from services.inference.request import FinishReason, Request, SamplingParams
from tests.fakes import READY, FakeEngine, adapter

REQUEST = Request("r1", (1, 2), None, SamplingParams(max_tokens=4, seed=1), arrival_s=0.0)
SUPPORT = adapter("tenants/acme/adapters/support/versions/1")
REFUSED = ServiceError(Code.RESOURCE_EXHAUSTED, Reason.QUEUE_FULL, "full", retry_after_s=1.0)


class Sink:
    """Keeps events; answers `cancel_on` with a Cancel, as a stop string does."""

    def __init__(self, cancel_on: type | None = None) -> None:
        self.events: asyncio.Queue = asyncio.Queue()
        self._cancel_on = cancel_on

    def put(self, event):
        self.events.put_nowait(event)
        if self._cancel_on and isinstance(event, self._cancel_on):
            return Cancel(event.request_id, FinishReason.STOP)
        return None


@pytest.fixture
async def engine():
    return FakeEngine()


@pytest.fixture
async def client(engine):
    client = EngineClient(engine)
    yield client
    await client.shut_down()
    client.check_integrity()


async def test_ready_comes_first_and_shut_down_ends_the_engine(client, engine):
    assert await client.ready == READY
    assert repr(client) == "EngineClient(ready, requests=0, calls=0)"
    await client.shut_down()
    assert engine.exit_code == 0
    assert repr(client) == "EngineClient(gone, requests=0, calls=0)"


async def test_events_reach_the_sink_of_their_request_until_its_end(client, engine):
    sink, other = Sink(), Sink()
    client.submit(REQUEST, sink)
    client.submit(replace(REQUEST, request_id="r2"), other)
    assert await engine.next_command() == Submit(REQUEST)
    events = Started("r1", 0, 0.0, 0.0), Tokens("r1", (5,)), Finished("r1", FinishReason.LENGTH)
    engine.send(*events[:2], Tokens("r2", (6,)))
    engine.send(events[2], Tokens("r1", (7,)), Finished("r2", FinishReason.LENGTH))
    assert [await sink.events.get() for _ in events] == list(events)
    assert (await other.events.get(), (await other.events.get()).request_id) == (Tokens("r2", (6,)), "r2")
    assert sink.events.empty()
    client.check_integrity()


async def test_a_cancelled_request_hears_nothing_more(client, engine):
    sink, other = Sink(), Sink()
    client.submit(REQUEST, sink)
    client.cancel("r1")
    client.cancel("r1")
    client.submit(replace(REQUEST, request_id="r2"), other)
    commands = [await engine.next_command() for _ in range(3)]
    assert [type(command) for command in commands] == [Submit, Cancel, Submit]
    assert commands[1] == Cancel("r1", FinishReason.CANCELLED)
    engine.send(Finished("r1", FinishReason.CANCELLED), Finished("r2", FinishReason.LENGTH))
    await other.events.get()
    assert sink.events.empty()


async def test_a_sinks_cancel_is_sent_on(client, engine):
    sink = Sink(cancel_on=Tokens)
    client.submit(REQUEST, sink)
    await engine.next_request()
    engine.send(Tokens("r1", (5,)), Tokens("r1", (6,)))
    assert await engine.next_command() == Cancel("r1", FinishReason.STOP)
    assert await sink.events.get() == Tokens("r1", (5,))
    assert sink.events.empty()


async def test_cutting_off_fails_everything_and_tells_the_engine(client, engine):
    def why():
        return ServiceError(Code.UNAVAILABLE, Reason.DRAINING, "stopping", retry_after_s=1.0)

    sink = Sink()
    client.submit(REQUEST, sink)
    call = asyncio.create_task(client.stats())
    await engine.next_request()
    await engine.next_command()
    assert client.cut_off(why) == 1
    assert (await sink.events.get()).error.reason is Reason.DRAINING
    assert await engine.next_command() == Cancel("r1", FinishReason.CANCELLED)
    with pytest.raises(ServiceError, match="stopping"):
        await call
    with pytest.raises(ServiceError, match="stopping"):
        client.submit(REQUEST, sink)
    engine.send(Finished("r1", FinishReason.CANCELLED))
    await client.shut_down()
    assert sink.events.empty()


async def test_calls_are_answered_in_any_order(client, engine):
    info = AdapterInfo("v1", SUPPORT.key, ResidencyState.DEVICE, True, 8, 1, 2, 0, 0, 0.0)
    load = asyncio.create_task(client.load(SUPPORT, ResidencyState.DEVICE, pin=True))
    unload = asyncio.create_task(client.unload(SUPPORT.key, "acme", ResidencyState.HOST))
    listing = asyncio.create_task(client.list_resident())
    first, second, third = [await engine.next_command() for _ in range(3)]
    assert first == LoadAdapter(first.call_id, SUPPORT, ResidencyState.DEVICE, True)
    assert second == UnloadAdapter(second.call_id, SUPPORT.key, "acme", ResidencyState.HOST)
    assert third == ListResident(third.call_id)
    engine.send(Reply(third.call_id, (info,)), Reply(second.call_id, Freed(3, 4)), Reply(first.call_id, info))
    assert (await load, await unload, await listing) == (info, Freed(3, 4), (info,))


async def test_an_error_in_reply_is_raised(client, engine):
    call = asyncio.create_task(client.stats())
    command = await engine.next_command()
    assert command == GetStats(command.call_id)
    engine.send(Reply(command.call_id, REFUSED))
    with pytest.raises(ServiceError, match="full"):
        await call


async def test_a_call_nobody_waits_for_any_more_is_forgotten(client, engine):
    call = asyncio.create_task(client.stats())
    command = await engine.next_command()
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    client.check_integrity()
    sink = Sink()
    client.submit(REQUEST, sink)
    engine.send(Reply(command.call_id, REFUSED), Finished("r1", FinishReason.LENGTH))
    await sink.events.get()


async def test_death_fails_everything_at_once_and_for_good(client, engine):
    sink = Sink()
    await client.ready
    client.submit(REQUEST, sink)
    call = asyncio.create_task(client.stats())
    await engine.next_request()
    await engine.next_command()
    engine.die()
    failed = await sink.events.get()
    assert (failed.error.code, failed.error.reason) == (Code.UNAVAILABLE, Reason.ENGINE_DOWN)
    assert failed.error.retry_after_s is not None
    with pytest.raises(ServiceError, match="engine process is gone"):
        await call
    await client.died.wait()
    with pytest.raises(ServiceError, match="engine process is gone"):
        client.submit(REQUEST, sink)
    with pytest.raises(ServiceError, match="engine process is gone"):
        await client.stats()


async def test_death_before_ready_fails_ready():
    engine = FakeEngine(ready=None)
    client = EngineClient(engine)
    engine.die()
    with pytest.raises(ServiceError, match="engine process is gone"):
        await client.ready
    await client.shut_down()


async def test_a_model_that_cannot_be_loaded_says_why():
    engine = FakeEngine(
        ready=Failed("", ServiceError(Code.INVALID_ARGUMENT, Reason.INVALID_FIELD, "no weights"))
    )
    client = EngineClient(engine)
    with pytest.raises(ServiceError, match="no weights"):
        await client.ready
    await client.shut_down()


async def test_an_engine_that_does_not_stop_is_killed():
    class DeafEngine(FakeEngine):
        was_killed = False

        def join(self, timeout_s):
            return super().join(timeout_s) if self.was_killed else None

        def kill(self):
            self.was_killed = True

    engine = DeafEngine()
    client = EngineClient(engine)
    await client.shut_down(timeout_s=0.0)
    assert engine.was_killed
    assert client.died.is_set()
