"""The chassis around a service made of plain handlers: errors, health, reflection, drain."""

import asyncio
import gc
import logging
import os
import signal
import weakref

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from protos.multilora.v1 import adapter_store_pb2 as pb
from services.common.errors import Code, Reason, ServiceError
from services.common.server import Server

SERVICE = "multilora.v1.AdapterStoreService"


class Heavy:
    """Something large that a handler has at hand when it fails."""


class Trouble:
    """Handlers whose request says what goes wrong."""

    def __init__(self):
        self.ended = asyncio.Event()
        self.go_on = asyncio.Event()
        self.heavy = None

    def go(self, request):
        if request.name == "answer":
            raise ServiceError(Code.ABORTED, Reason.STALE_ETAG, "words", field="f", retry_after_s=2)
        if request.name == "heavy":
            heavy = Heavy()
            self.heavy = weakref.ref(heavy)
            raise ServiceError(Code.ABORTED, Reason.STALE_ETAG, "words")
        if request.name == "defect":
            raise RuntimeError("secret of the house")

    async def unary(self, request, context):
        self.go(request)
        return pb.Adapter(name=request.name)

    async def stream(self, request, context):
        try:
            yield pb.Adapter(name="first")
            self.go(request)
            if request.name == "waits":
                await self.go_on.wait()
            if request.name == "endless":
                await asyncio.Event().wait()
            yield pb.Adapter(name="last")
        finally:
            self.ended.set()

    async def gather(self, requests, context):
        names = []
        async for request in requests:
            self.go(request)
            names.append(request.name)
        return pb.Adapter(name=",".join(names))


@pytest.fixture
async def trouble():
    return Trouble()


@pytest.fixture
async def server(trouble):
    server = Server("127.0.0.1:0", SERVICE, grace_s=5)
    codec = {
        "request_deserializer": pb.Adapter.FromString,
        "response_serializer": pb.Adapter.SerializeToString,
    }
    methods = {
        "Unary": grpc.unary_unary_rpc_method_handler(trouble.unary, **codec),
        "Stream": grpc.unary_stream_rpc_method_handler(trouble.stream, **codec),
        "Gather": grpc.stream_unary_rpc_method_handler(trouble.gather, **codec),
    }
    server.inner.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.T", methods),))
    await server.start()
    yield server
    await server.inner.stop(None)


@pytest.fixture
async def channel(server):
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield channel


CODEC = {"request_serializer": pb.Adapter.SerializeToString, "response_deserializer": pb.Adapter.FromString}


async def call(channel, method, name):
    if method == "Unary":
        return [await channel.unary_unary("/t.T/Unary", **CODEC)(pb.Adapter(name=name))]
    if method == "Gather":
        return [await channel.stream_unary("/t.T/Gather", **CODEC)(iter([pb.Adapter(name=name)]))]
    return [m async for m in channel.unary_stream("/t.T/Stream", **CODEC)(pb.Adapter(name=name))]


@pytest.mark.parametrize("method", ["Unary", "Stream", "Gather"])
async def test_answers_are_statuses_with_details(channel, method):
    assert (await call(channel, method, "fine"))[-1].name in ("fine", "last")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(channel, method, "answer")
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.ABORTED, "words")
    status = rpc_status.from_call(caught.value)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.reason, info.metadata["field"]) == ("STALE_ETAG", "f")
    assert len(status.details) == 3


@pytest.mark.parametrize("method", ["Unary", "Stream", "Gather"])
async def test_a_defect_keeps_its_text_to_the_log(channel, method, caplog):
    with caplog.at_level(logging.INFO), pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(channel, method, "defect")
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in str(caught.value)
    incident = caught.value.details().split("incident ")[1].split(":")[0]
    (record,) = (r for r in caplog.records if incident in r.getMessage())
    assert "secret of the house" in str(record.exc_info[1])


@pytest.mark.parametrize("method", ["Unary", "Stream", "Gather"])
@pytest.mark.parametrize("data", [b"\xff\xff\xff", b"\x0a\x02\xff\xfe"], ids=["garbage", "text not UTF-8"])
async def test_bytes_that_are_no_message_are_an_invalid_argument(channel, method, data, caplog):
    """gRPC by itself answers UNKNOWN with the decoder's words, and logs a traceback for each."""
    if method == "Stream":
        answer = channel.unary_stream("/t.T/Stream")(data).read()
    elif method == "Gather":
        answer = channel.stream_unary("/t.T/Gather")(iter([data]))
    else:
        answer = channel.unary_unary("/t.T/Unary")(data)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answer
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    info = error_details_pb2.ErrorInfo()
    assert rpc_status.from_call(caught.value).details[0].Unpack(info)
    assert info.reason == "INVALID_FIELD"
    assert "Decode" not in caught.value.details()
    assert not caplog.records


@pytest.mark.parametrize("method", ["Unary", "Stream", "Gather"])
async def test_a_refused_call_leaves_nothing_for_the_garbage_collector(channel, trouble, method):
    """gRPC keeps what aborting raises in a cycle; a handler's locals must not hang on it."""
    gc.disable()
    try:
        with pytest.raises(grpc.aio.AioRpcError):
            await call(channel, method, "heavy")
        assert trouble.heavy() is None
    finally:
        gc.enable()


async def test_a_burst_of_calls_reaches_the_service(server):
    """gRPC by itself cancels calls at random once 1,000 wait for their handlers."""
    options = [("grpc.max_concurrent_streams", 1 << 20)]
    async with grpc.aio.insecure_channel(server.address, options=options) as channel:
        calls = [channel.unary_unary("/t.T/Unary", **CODEC)(pb.Adapter(name="answer")) for _ in range(3500)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
    assert {answer.code() for answer in answers} == {grpc.StatusCode.ABORTED}


async def test_a_cancelled_stream_ends_its_handler(channel, trouble):
    stream = channel.unary_stream("/t.T/Stream", **CODEC)(pb.Adapter(name="endless"))
    assert (await stream.read()).name == "first"
    stream.cancel()
    await asyncio.wait_for(trouble.ended.wait(), 10)


async def test_health_and_reflection(server, channel):
    stub = health_pb2_grpc.HealthStub(channel)

    async def status(service):
        return (await stub.Check(health_pb2.HealthCheckRequest(service=service))).status

    for serving, expected in ((False, 2), (True, 1)):
        await server.set_serving(serving)
        assert [await status(name) for name in ("", SERVICE)] == [expected, expected]
    watch = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    await server.set_serving(False)
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    watch.cancel()
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    reflection = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([request]))
    names = [s.name async for response in reflection for s in response.list_services_response.service]
    assert SERVICE in names
    assert "grpc.health.v1.Health" in names


@pytest.mark.parametrize("how", ["stop", "SIGTERM", "SIGINT"])
async def test_a_drain_runs_before_the_server_stops(server, channel, how):
    await server.set_serving(True)
    seen = []

    async def drain():
        health = health_pb2_grpc.HealthStub(channel)
        seen.append((await health.Check(health_pb2.HealthCheckRequest())).status)

    running = asyncio.create_task(server.run_until_stopped(drain))
    await asyncio.sleep(0)
    if how == "stop":
        server.stop()
    else:
        os.kill(os.getpid(), getattr(signal, how))
    await asyncio.wait_for(running, 10)
    assert seen == [health_pb2.HealthCheckResponse.NOT_SERVING]


async def test_a_drain_that_hangs_is_cut_off(caplog):
    server = Server("127.0.0.1:0", SERVICE, grace_s=0.05)
    await server.start()
    server.stop()
    await asyncio.wait_for(server.run_until_stopped(asyncio.Event().wait), 10)
    assert "took longer" in caplog.text


async def test_what_runs_goes_on_though_nothing_new_is_taken(server, channel, trouble):
    """What watches our health has no end, and keeps nobody from stopping."""
    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
    await watch.read()
    stream = channel.unary_stream("/t.T/Stream", **CODEC)(pb.Adapter(name="waits"))
    assert (await stream.read()).name == "first"
    finishing, may_finish = asyncio.Event(), asyncio.Event()

    async def finish():
        finishing.set()
        await may_finish.wait()

    running = asyncio.create_task(server.run_until_stopped(finish=finish))
    await asyncio.sleep(0)
    server.stop()
    await finishing.wait()
    async with grpc.aio.insecure_channel(server.address) as other:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(other, "Unary", "fine")
        # The latter where the connection has not been told yet.
        assert refused.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    trouble.go_on.set()
    assert (await stream.read()).name == "last"
    may_finish.set()
    await asyncio.wait_for(running, 4)


async def test_a_taken_port_is_an_os_error(server):
    with pytest.raises(OSError, match="another process"):
        await Server(server.address, SERVICE).start()
