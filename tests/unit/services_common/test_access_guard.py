"""The guard of a service of two RPCs, without gRPC: who comes past it, and in which words others do not."""

import asyncio

import pytest

from protos.multilora.v1 import adapter_store_pb2 as pb
from services.common.access_guard import RECHECK_S, AccessGuard, caller_of
from services.common.access_rule import Place, inside, operators
from services.common.caller import Caller, Role
from services.common.errors import Reason, ServiceError, not_found
from services.common.gate import OpenGate, TokenGate, bad_token

SERVICE = pb.DESCRIPTOR.services_by_name["AdapterStoreService"]
RULES = {
    "GetAdapter": inside(Role.PUBLISHER, "adapter", "name"),
    "Upload": inside(Role.PUBLISHER, "adapter", "path"),
    "Watch": inside(Role.READER, "adapter", "parent"),
    "CollectGarbage": operators(Role.ADMIN),
}
CALLERS = {
    "reader": Caller("r", "acme", Role.READER),
    "publisher": Caller("p", "acme", Role.PUBLISHER),
    "operator": Caller("o", "*", Role.ADMIN),
}


class Context:
    def __init__(self, token: str) -> None:
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()

    def invocation_metadata(self):
        return self._metadata

    def peer(self) -> str:
        return "ipv4:127.0.0.1:5"


class Servicer:
    async def GetAdapter(self, request, context):
        return caller_of(context).name

    async def ListAdapters(self, request, context):
        raise AssertionError("has no rule")

    async def CollectGarbage(self, request, context):
        return caller_of(context).name

    async def Upload(self, requests, context):
        return [request.data async for request in requests]

    async def Watch(self, request, context):
        yield caller_of(context).name


class Places:
    """The tenant is what the field says."""

    async def place(self, rule, request):
        tenant = getattr(request, rule.field)
        return Place(tenant, not_found(Reason.ADAPTER_NOT_FOUND, f"no {tenant}")) if tenant else None


async def authenticate(secret: str) -> Caller:
    if secret not in CALLERS:
        raise bad_token("it is not known here")
    return CALLERS[secret]


@pytest.fixture
def guard() -> AccessGuard:
    return AccessGuard(Servicer(), SERVICE, RULES, TokenGate(authenticate), Places())


async def reason(call) -> tuple[str, str]:
    with pytest.raises(ServiceError) as caught:
        await call
    return caught.value.code, caught.value.reason


@pytest.mark.parametrize(
    ("token", "tenant", "expected"),
    [
        ("", "acme", ("UNAUTHENTICATED", "NO_TOKEN")),
        ("stranger", "acme", ("UNAUTHENTICATED", "BAD_TOKEN")),
        ("x" * 300, "acme", ("UNAUTHENTICATED", "BAD_TOKEN")),
        ("reader", "acme", ("PERMISSION_DENIED", "ROLE_TOO_LOW")),
        ("reader", "other", ("NOT_FOUND", "ADAPTER_NOT_FOUND")),
        ("publisher", "other", ("NOT_FOUND", "ADAPTER_NOT_FOUND")),
    ],
)
async def test_who_is_refused(guard, token, tenant, expected):
    assert await reason(guard.GetAdapter(pb.GetAdapterRequest(name=tenant), Context(token))) == expected


async def test_who_comes_past(guard):
    assert await guard.GetAdapter(pb.GetAdapterRequest(name="acme"), Context("publisher")) == "p"
    assert await guard.GetAdapter(pb.GetAdapterRequest(name="any"), Context("operator")) == "o"
    assert await guard.CollectGarbage(pb.CollectGarbageRequest(), Context("operator")) == "o"
    expected = ("PERMISSION_DENIED", "ROLE_TOO_LOW")
    assert await reason(guard.CollectGarbage(pb.CollectGarbageRequest(), Context("publisher"))) == expected


async def test_an_rpc_without_a_rule_is_refused_to_everybody(guard):
    expected = ("PERMISSION_DENIED", "ROLE_TOO_LOW")
    assert await reason(guard.ListAdapters(pb.ListAdaptersRequest(), Context("operator"))) == expected


async def test_a_stream_of_requests_is_judged_by_its_first_and_comes_whole(guard):
    async def requests(tenant: str):
        yield pb.UploadRequest(path=tenant, data=b"1")
        yield pb.UploadRequest(data=b"2")

    async def nothing():
        for _ in ():
            yield

    assert await guard.Upload(requests("acme"), Context("publisher")) == [b"1", b"2"]
    assert await guard.Upload(nothing(), Context("publisher")) == []
    assert (await reason(guard.Upload(requests("other"), Context("publisher"))))[0] == "NOT_FOUND"
    assert (await reason(guard.Upload(requests("acme"), Context("reader"))))[0] == "PERMISSION_DENIED"


async def test_a_stream_of_responses_is_refused_before_its_first(guard):
    got = [name async for name in guard.Watch(pb.WatchRequest(parent="acme"), Context("reader"))]
    assert got == ["r"]
    with pytest.raises(ServiceError) as caught:
        await anext(guard.Watch(pb.WatchRequest(parent="other"), Context("reader")))
    assert caught.value.code == "NOT_FOUND"


class Revocable:
    """The guard of a servicer that goes on for ever, with tokens that can be taken back and a clock."""

    def __init__(self, servicer, rules):
        self.now_s = 0.0
        self.known = dict(CALLERS)
        gate = TokenGate(self._authenticate)
        self.guard = AccessGuard(servicer, SERVICE, rules, gate, Places(), lambda: self.now_s)

    async def _authenticate(self, secret: str) -> Caller:
        if secret not in self.known:
            raise bad_token("it was revoked")
        return self.known[secret]


class Endless:
    async def Watch(self, request, context):
        while True:
            yield caller_of(context).name

    async def Upload(self, requests, context):
        return len([request async for request in requests])


async def test_a_lasting_stream_of_responses_ends_once_its_token_is_no_good():
    world = Revocable(Endless(), {"Watch": inside(Role.READER, "adapter", "parent", lasting=True)})
    stream = world.guard.Watch(pb.WatchRequest(parent="acme"), Context("reader"))
    await anext(stream)
    del world.known["reader"]
    world.now_s = RECHECK_S - 0.1
    await anext(stream)
    world.now_s = RECHECK_S
    with pytest.raises(ServiceError) as caught:
        await anext(stream)
    assert caught.value.reason == "BAD_TOKEN"


@pytest.mark.parametrize(("lasting", "expected"), [(True, "BAD_TOKEN"), (False, None)])
async def test_a_lasting_stream_of_requests_is_read_no_further_once_its_token_is_no_good(lasting, expected):
    rule = inside(Role.PUBLISHER, "adapter", "path", lasting=lasting)
    world = Revocable(Endless(), {"Upload": rule})
    num_sent = 0

    async def requests():
        nonlocal num_sent
        for now_s in (0.0, RECHECK_S - 0.1, RECHECK_S, RECHECK_S + 0.1):
            world.now_s = now_s
            num_sent += 1
            yield pb.UploadRequest(path="acme")
            world.known.pop("publisher", None)

    call = world.guard.Upload(requests(), Context("publisher"))
    if expected is None:
        assert await call == 4
        return
    assert (await reason(call))[1] == expected
    assert num_sent == 3


async def test_a_tenant_has_so_many_streams_of_requests_open_that_bring_nothing():
    rules = {"Upload": inside(Role.PUBLISHER, "adapter", "path", most_open=1)}
    guard = AccessGuard(Endless(), SERVICE, rules, TokenGate(authenticate), Places())
    is_open, may_end = asyncio.Event(), asyncio.Event()

    async def silence():
        is_open.set()
        await may_end.wait()
        for _ in ():
            yield

    async def one():
        yield pb.UploadRequest(path="acme")

    first = asyncio.create_task(guard.Upload(silence(), Context("publisher")))
    await is_open.wait()
    expected = ("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED")
    assert await reason(guard.Upload(one(), Context("publisher"))) == expected
    assert await guard.Upload(one(), Context("operator")) == 1
    may_end.set()
    assert await first == 0
    assert await guard.Upload(one(), Context("publisher")) == 1


async def test_without_access_control_everybody_is_an_operator():
    guard = AccessGuard(Servicer(), SERVICE, RULES, OpenGate(), Places())
    assert await guard.GetAdapter(pb.GetAdapterRequest(name="x"), Context("")) == "ipv4:127.0.0.1:5"


@pytest.mark.parametrize("value", ["Basic abc", "Bearer", "Bearer ", "mlt_1_2"])
async def test_a_header_that_is_no_bearer_token_is_none(value):
    with pytest.raises(ServiceError) as caught:
        await TokenGate(authenticate).caller((("Authorization", value),), "")
    assert caught.value.reason == "NO_TOKEN"


def test_roles_include_those_below():
    assert Role.ADMIN.includes(Role.READER)
    assert Role.PUBLISHER.includes(Role.PUBLISHER)
    assert not Role.READER.includes(Role.PUBLISHER)


async def test_a_tenant_has_so_many_streams_of_an_rpc_open():
    rules = {"Watch": inside(Role.READER, "adapter", "parent", most_open=1)}
    guard = AccessGuard(Endless(), SERVICE, rules, TokenGate(authenticate), Places())
    request = pb.WatchRequest(parent="acme")
    first = guard.Watch(request, Context("reader"))
    assert await anext(first) == "r"
    expected = ("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED")
    assert await reason(anext(guard.Watch(request, Context("publisher")))) == expected
    operators_own = guard.Watch(request, Context("operator"))
    assert await anext(operators_own) == "o"
    await first.aclose()
    again = guard.Watch(request, Context("publisher"))
    assert await anext(again) == "p"
    await again.aclose()
    await operators_own.aclose()


async def test_a_tenant_waits_for_its_own_calls_and_nobody_for_another_tenants():
    class Slow:
        def __init__(self):
            self.begun, self.are_six, self.may_end = [], asyncio.Event(), asyncio.Event()

        async def GetAdapter(self, request, context):
            self.begun.append(request.name)
            if len(self.begun) == 6:
                self.are_six.set()
            await self.may_end.wait()

    async def of_any_tenant(secret: str) -> Caller:
        return Caller(secret, "*" if secret == "operator" else secret, Role.ADMIN)

    slow = Slow()
    guard = AccessGuard(slow, SERVICE, RULES, TokenGate(of_any_tenant), Places(), calls_at_once=2)

    def call(tenant: str) -> asyncio.Task:
        return asyncio.create_task(guard.GetAdapter(pb.GetAdapterRequest(name=tenant), Context(tenant)))

    calls = [call(tenant) for tenant in ("acme", "acme", "acme", "other", "operator", "operator", "operator")]
    await asyncio.wait_for(slow.are_six.wait(), 20)
    assert sorted(slow.begun) == ["acme", "acme", "operator", "operator", "operator", "other"]
    left = call("acme")
    await asyncio.sleep(0)
    left.cancel()
    slow.may_end.set()
    await asyncio.gather(*calls)
    assert slow.begun.count("acme") == 3
    await call("acme")
