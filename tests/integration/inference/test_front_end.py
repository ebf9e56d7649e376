"""FrontEnd: the order of starting, the announcement, and every way to stop; real signals, fake engine."""

import asyncio
import os
import signal
import socket
from collections.abc import Iterable
from dataclasses import replace

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protos.multilora.v1 import inference_pb2 as pb
from protos.multilora.v1 import inference_pb2_grpc as pb_grpc
from services.common.errors import Code, Reason, ServiceError
from services.inference import engine_keeper as engine_keeper_module
from services.inference import front_end as front_end_module
from services.inference.front_end import SERVICE_NAME, FrontEnd
from services.inference.messages import Cancel, Command, Events, Failed, Finished, Started
from services.inference.model.digest import base_model_digest
from services.inference.request import FinishReason
from services.inference.settings import Settings
from tests.fakes import READY, FakeEngine, FakeStore
from tests.integration.inference.served import error_of, read_model, write_model_dir

STORE_DOWN = ServiceError(Code.UNAVAILABLE, Reason.STORE_UNAVAILABLE, "no answer", retry_after_s=1.0)
CONFLICT = ServiceError(Code.FAILED_PRECONDITION, Reason.BASE_MODEL_CONFLICT, "another digest")


def obeys_cancel(command: Command) -> Iterable[Events]:
    """Ends a request when told to, as the engine does."""
    if isinstance(command, Cancel):
        yield (Finished(command.request_id, command.reason),)


class Running:
    """A FrontEnd at work; `address` once it said that it serves."""

    def __init__(
        self, settings: Settings, engine: FakeEngine, store: FakeStore, *more_engines: FakeEngine
    ) -> None:
        self.engine, self.store = engine, store
        self.announced: asyncio.Queue[str] = asyncio.Queue()
        engines = iter((engine, *more_engines))
        front_end = FrontEnd(
            settings, read_model(settings.model), store, lambda: next(engines), self.announced.put_nowait
        )
        self.exit_code = asyncio.create_task(front_end.run())

    async def stub(self) -> tuple[grpc.aio.Channel, pb_grpc.InferenceServiceStub]:
        channel = grpc.aio.insecure_channel(await asyncio.wait_for(self.announced.get(), 10))
        return channel, pb_grpc.InferenceServiceStub(channel)

    async def started_call(self, stub: pb_grpc.InferenceServiceStub):
        """A stream whose `started` has been read, and its id in the engine."""
        call = stub.Generate(pb.GenerateRequest(text="hello"))
        request = await self.engine.next_request()
        self.engine.send(Started(request.request_id, 0, 0.0, 0.0))
        assert (await call.read()).WhichOneof("event") == "started"
        return call, request.request_id


@pytest.fixture
def settings(tmp_path):
    return Settings(model=write_model_dir(tmp_path), listen="127.0.0.1:0", base_model="demo")


def stop_as(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


async def health(channel: grpc.aio.Channel) -> int:
    stub = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest(service=SERVICE_NAME)
    return (await stub.Check(request)).status


async def not_serving(channel: grpc.aio.Channel) -> None:
    """Returns once the signal has been heard."""
    while await health(channel) != health_pb2.HealthCheckResponse.NOT_SERVING:
        pass


async def serving(channel: grpc.aio.Channel) -> None:
    """Returns once calls are taken."""
    while await health(channel) != health_pb2.HealthCheckResponse.SERVING:
        pass


async def ends_with(running: Running, exit_code: int) -> None:
    """The process would exit with this, and leave nothing behind."""
    assert await asyncio.wait_for(running.exit_code, 20) == exit_code
    assert running.engine.exit_code is not None
    assert running.store.is_closed
    assert running.announced.empty()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_serves_when_ready_and_drains_when_told_to_stop(settings, number):
    running = Running(settings, FakeEngine(), FakeStore())
    channel, stub = await running.stub()
    assert running.store.registered == [("demo", base_model_digest(settings.model), 64)]
    assert await health(channel) == health_pb2.HealthCheckResponse.SERVING
    call, request_id = await running.started_call(stub)
    stop_as(number)
    await not_serving(channel)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await stub.Generate(pb.GenerateRequest(text="hello")).read()
    assert error_of(raised.value)[:2] == ("UNAVAILABLE", "DRAINING")
    running.engine.send(Finished(request_id, FinishReason.LENGTH))
    assert (await call.read()).finished.reason == pb.LENGTH
    assert await call.read() is grpc.aio.EOF
    await channel.close()
    await ends_with(running, 0)
    assert running.engine.exit_code == 0


async def test_waits_for_a_store_that_is_not_there_yet(settings, monkeypatch, caplog):
    monkeypatch.setattr(front_end_module, "FIRST_RETRY_S", 0.0)
    running = Running(settings, FakeEngine(), FakeStore(failures=[STORE_DOWN, STORE_DOWN]))
    channel, _ = await running.stub()
    assert len(running.store.registered) == 1
    assert caplog.text.count("the adapter store is not there yet (no answer)") == 2
    await channel.close()
    stop_as(signal.SIGTERM)
    await ends_with(running, 0)


async def test_health_is_serving_only_once_the_engine_is_warm_and_the_model_registered(settings):
    class SlowStore(FakeStore):
        asked, may_answer = asyncio.Event(), asyncio.Event()

        async def register_base_model(self, *arguments):
            self.asked.set()
            await self.may_answer.wait()
            await super().register_base_model(*arguments)

    with socket.create_server(("127.0.0.1", 0)) as free:
        listen = f"127.0.0.1:{free.getsockname()[1]}"
    running = Running(replace(settings, listen=listen), FakeEngine(ready=None), SlowStore())
    async with grpc.aio.insecure_channel(listen) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service=SERVICE_NAME)
        not_yet = health_pb2.HealthCheckResponse.NOT_SERVING
        assert (await stub.Check(request, wait_for_ready=True, timeout=10)).status == not_yet
        running.engine.send(READY)
        await running.store.asked.wait()
        assert await health(channel) == not_yet
        running.store.may_answer.set()
        assert await asyncio.wait_for(running.announced.get(), 10) == listen
        assert await health(channel) == health_pb2.HealthCheckResponse.SERVING
    stop_as(signal.SIGTERM)
    await ends_with(running, 0)


async def test_can_be_stopped_while_it_waits_for_the_store(settings):
    class SilentStore(FakeStore):
        asked = asyncio.Event()

        async def register_base_model(self, *arguments):
            self.asked.set()
            await asyncio.Event().wait()

    running = Running(settings, FakeEngine(), SilentStore())
    await running.store.asked.wait()
    stop_as(signal.SIGTERM)
    await ends_with(running, 0)


async def test_a_store_that_refuses_the_model_ends_the_start(settings, caplog):
    running = Running(settings, FakeEngine(), FakeStore(failures=[CONFLICT]))
    await ends_with(running, 1)
    assert "cannot start: another digest" in caplog.text


async def test_a_defect_ends_the_start_too(settings, caplog):
    running = Running(settings, FakeEngine(), FakeStore(failures=[ValueError("nobody foresaw this")]))
    await ends_with(running, 1)
    assert "nobody foresaw this" in caplog.text


async def test_a_model_that_cannot_be_loaded_ends_the_start(settings, caplog):
    error = ServiceError(Code.INVALID_ARGUMENT, Reason.INVALID_FIELD, "no weights")
    engine = FakeEngine(ready=Failed("", error))
    running = Running(settings, engine, FakeStore())
    await ends_with(running, 1)
    assert "cannot start: no weights" in caplog.text


async def test_an_engine_that_crashes_too_often_ends_the_service(settings, caplog):
    running = Running(replace(settings, max_engine_restarts=0), FakeEngine(), FakeStore())
    channel, stub = await running.stub()
    call, _ = await running.started_call(stub)
    running.engine.die()
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call.read()
    assert error_of(raised.value)[:2] == ("UNAVAILABLE", "ENGINE_DOWN")
    await channel.close()
    await ends_with(running, 1)
    assert "stopping: the engine process is gone (killed by SIGKILL)" in caplog.text
    assert "--max-engine-restarts" in caplog.text


async def test_a_crashed_engine_is_replaced_and_nothing_is_sent_here_meanwhile(settings, monkeypatch):
    monkeypatch.setattr(engine_keeper_module, "FIRST_PAUSE_S", 0.0)
    second = FakeEngine(ready=None)
    running = Running(settings, FakeEngine(), FakeStore(), second)
    channel, stub = await running.stub()
    call, _ = await running.started_call(stub)
    queued = stub.Generate(pb.GenerateRequest(text="hello"))
    await running.engine.next_request()
    running.engine.die()
    for each in (call, queued):
        with pytest.raises(grpc.aio.AioRpcError, match="send this again"):
            await each.read()
    await not_serving(channel)
    with pytest.raises(grpc.aio.AioRpcError, match=r"has crashed .* and is being started again") as raised:
        await stub.Generate(pb.GenerateRequest(text="hello")).read()
    assert error_of(raised.value)[:2] == ("UNAVAILABLE", "ENGINE_DOWN")
    assert error_of(raised.value)[3] is not None
    second.send(READY)
    await serving(channel)
    call = stub.Generate(pb.GenerateRequest(text="hello"))
    request = await second.next_request()
    second.send(Started(request.request_id, 0, 0.0, 0.0), Finished(request.request_id, FinishReason.LENGTH))
    assert [each.WhichOneof("event") async for each in call] == ["started", "finished"]
    await channel.close()
    stop_as(signal.SIGTERM)
    await ends_with(running, 0)
    assert second.exit_code == 0


async def test_can_be_stopped_while_a_crashed_engine_is_started_again(settings, monkeypatch):
    monkeypatch.setattr(engine_keeper_module, "FIRST_PAUSE_S", 0.0)
    second = FakeEngine(ready=None)
    running = Running(settings, FakeEngine(), FakeStore(), second)
    channel, _ = await running.stub()
    running.engine.die()
    await not_serving(channel)
    await channel.close()
    stop_as(signal.SIGTERM)
    await ends_with(running, 0)


async def test_an_engine_that_crashes_in_a_drain_is_a_failure_and_is_not_replaced(settings):
    running = Running(settings, FakeEngine(), FakeStore())
    channel, stub = await running.stub()
    call, _ = await running.started_call(stub)
    stop_as(signal.SIGTERM)
    await not_serving(channel)
    running.engine.die()
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call.read()
    assert error_of(raised.value)[:2] == ("UNAVAILABLE", "ENGINE_DOWN")
    await channel.close()
    await ends_with(running, 1)


async def is_cut_off(call) -> None:
    """The stream ends with an error that says why."""
    with pytest.raises(grpc.aio.AioRpcError, match="send it again, to another server") as raised:
        await call.read()
    code, reason, _, retry_s = error_of(raised.value)
    assert (code, reason) == ("UNAVAILABLE", "DRAINING")
    assert retry_s is not None


async def test_a_second_signal_cuts_off_what_runs(settings):
    running = Running(settings, FakeEngine(obeys_cancel), FakeStore())
    channel, stub = await running.stub()
    call, _ = await running.started_call(stub)
    stop_as(signal.SIGINT)
    await not_serving(channel)
    stop_as(signal.SIGINT)
    await is_cut_off(call)
    await channel.close()
    await ends_with(running, 1)


async def test_what_the_grace_is_too_short_for_is_cut_off(settings):
    running = Running(replace(settings, drain_grace_s=0.1), FakeEngine(obeys_cancel), FakeStore())
    channel, stub = await running.stub()
    call, _ = await running.started_call(stub)
    stop_as(signal.SIGTERM)
    await is_cut_off(call)
    await channel.close()
    await ends_with(running, 0)


async def test_an_address_in_use_is_said_and_nothing_is_left(settings):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        running = Running(replace(settings, listen=listen), FakeEngine(), FakeStore())
        with pytest.raises(OSError, match=f"cannot listen on {listen}"):
            await running.exit_code
    assert running.engine.exit_code == 0
    assert running.store.is_closed
