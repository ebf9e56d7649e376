"""The watch against a store that breaks off, falls silent and starts anew; the real one is in tests/e2e."""

import asyncio

import grpc
import pytest

from protos.multilora.v1 import adapter_store_pb2 as pb
from protos.multilora.v1.adapter_store_pb2_grpc import (
    AdapterStoreServiceServicer,
    AdapterStoreServiceStub,
    add_AdapterStoreServiceServicer_to_server,
)
from services.common.errors import Reason, invalid_field, unavailable
from services.common.interceptors import ErrorInterceptor
from services.common.rpc_meter import RpcMeter
from services.common.tracing import Tracing
from services.inference.adapter_name import parse_reference
from services.inference.adapters.known_names import KnownNames
from services.inference.adapters.store_watch import StoreWatch
from services.inference.resolution import Resolution
from tests.fakes import adapter

pytestmark = pytest.mark.timeout(30)
X = "tenants/acme/adapters/support/aliases/x"
BREAK = unavailable(Reason.DRAINING, "going away", 0.1)


class ScriptedStore(AdapterStoreServiceServicer):
    """Says what the test puts into `says`: a response, an error to raise, or None to end the stream."""

    def __init__(self):
        self.says = asyncio.Queue()
        self.tokens = asyncio.Queue()

    async def Watch(self, request, context):
        await self.tokens.put(request.resume_token)
        while (word := await self.says.get()) is not None:
            if isinstance(word, Exception):
                raise word
            yield word

    def say(self, token, *names, **fields):
        changes = [pb.Change(kind=pb.ALIAS_CHANGED, name=name) for name in names]
        self.says.put_nowait(pb.WatchResponse(changes=changes, resume_token=token, **fields))


async def one_turn():
    """Lets the store, which runs on this loop, go on."""
    await asyncio.sleep(0)


class Rig:
    def __init__(self, store, names):
        self.store, self.names = store, names

    def remember(self, name):
        question = self.names.ask(parse_reference(name))
        version = adapter("tenants/acme/adapters/support/versions/1")
        self.names.answer(question, 1, Resolution(version))

    def is_known(self, name):
        return self.names.find(parse_reference(name), "") is not None

    async def until(self, condition):
        while not condition():
            await one_turn()

    async def connected(self, is_connected=True):
        await self.until(lambda: self.names.stats().connected is is_connected)


@pytest.fixture
async def rig():
    store, names = ScriptedStore(), KnownNames()
    server = grpc.aio.server(interceptors=[ErrorInterceptor(RpcMeter(), Tracing())])
    add_AdapterStoreServiceServicer_to_server(store, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    async with grpc.aio.insecure_channel(address) as channel:
        watch = StoreWatch(AdapterStoreServiceStub(channel), names, silence_s=1.0)
        task = asyncio.create_task(watch.run())
        yield Rig(store, names)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not names.stats().connected
    names.check_idle()
    await server.stop(None)


async def test_changes_are_heard_and_forget_names(rig):
    rig.store.say("t1", caught_up=True)
    await rig.connected()
    rig.remember("acme/support@x"), rig.remember("acme/support@y")
    rig.store.say("t2", X, caught_up=True)
    await rig.until(lambda: rig.names.stats().changes_seen == 1)
    assert not rig.is_known("acme/support@x")
    assert rig.is_known("acme/support@y")


@pytest.mark.parametrize("end", [BREAK, None], ids=["breaks", "ends"])
async def test_after_a_break_it_goes_on_from_the_last_token_and_remembers(rig, end):
    rig.store.say("t1", caught_up=True)
    await rig.connected()
    rig.remember("acme/support@x"), rig.remember("acme/support@y")
    rig.store.says.put_nowait(end)
    await rig.connected(False)
    assert not rig.is_known("acme/support@y")
    assert [await rig.store.tokens.get() for _ in range(2)] == ["", "t1"]
    rig.store.say("t1")
    rig.store.say("t2", X)
    await rig.until(lambda: rig.names.stats().changes_seen == 1)
    assert not rig.is_known("acme/support@y"), "more may be to come"
    rig.store.say("t3", caught_up=True)
    await rig.connected()
    assert rig.is_known("acme/support@y")
    assert not rig.is_known("acme/support@x")


async def test_a_reset_forgets_everything(rig):
    rig.store.say("t1", caught_up=True)
    await rig.connected()
    rig.remember("acme/support@x")
    rig.store.says.put_nowait(BREAK)
    await rig.connected(False)
    rig.store.say("u1", reset=True, caught_up=True)
    await rig.connected()
    assert not rig.is_known("acme/support@x")
    rig.remember("acme/support@x")
    rig.store.say("u2", reset=True, caught_up=True)
    rig.store.say("u3", X.replace("support", "other"), caught_up=True)
    await rig.until(lambda: rig.names.stats().changes_seen == 1)
    assert not rig.is_known("acme/support@x"), "a reset in mid-stream counts as well"


async def test_a_token_that_the_store_does_not_take_is_dropped(rig):
    rig.store.say("t1", caught_up=True)
    await rig.connected()
    rig.store.says.put_nowait(BREAK)
    rig.store.says.put_nowait(invalid_field("resume_token", "is no token"))
    rig.store.say("u1", caught_up=True)
    await rig.connected(False)
    await rig.connected()
    assert [await rig.store.tokens.get() for _ in range(3)] == ["", "t1", ""]


async def test_silence_is_a_break(rig):
    rig.store.say("t1", caught_up=True)
    await rig.connected()
    await rig.connected(False)
    assert [await rig.store.tokens.get() for _ in range(2)] == ["", "t1"]
