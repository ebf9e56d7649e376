"""Tenants' quotas at an inference server: queued requests, tokens a minute, what the engine is told."""

import grpc
import pytest

from protos.multilora.v1 import inference_pb2 as pb
from services.common.caller import Caller, Role
from services.common.gate import TokenGate
from services.inference.messages import (
    Finished,
    SetTenantQuota,
    Started,
    Submit,
    Tokens,
)
from services.inference.request import FinishReason
from services.inference.tenant_traffic import TenantQuotas
from tests.fakes import FakeEngine, generate
from tests.integration.inference.served import error_of, read_all, read_model, serve, write_model_dir

ACME = Caller("t1", "acme", Role.READER)


@pytest.fixture
def model(tmp_path):
    return read_model(write_model_dir(tmp_path))


def request(adapter="acme/support", text="abc", max_tokens=8):
    return pb.GenerateRequest(adapter=adapter, text=text, sampling=pb.SamplingParams(max_tokens=max_tokens))


async def refused(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read_all(call)
    code, reason, _, retry_s = error_of(caught.value)
    assert retry_s is not None
    return code, reason


EXCEEDED = ("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED")


async def test_requests_that_wait_are_counted_until_they_start(model):
    async with serve(model, FakeEngine()) as served:
        served.store.quotas["acme"] = TenantQuotas(max_queued_requests=1)
        first = served.stub.Generate(request())
        inner = await served.engine.next_request()
        assert await refused(served.stub.Generate(request())) == EXCEEDED
        # The base model is no tenant's while nobody has to say who he is.
        base = served.stub.Generate(request(adapter=""))
        other = await served.engine.next_request()
        served.engine.send(Started(inner.request_id, 0, 0.0, 0.0))
        await first.read()
        second = served.stub.Generate(request())
        third = await served.engine.next_request()
        for each in (inner, other, third):
            served.engine.send(Finished(each.request_id, FinishReason.LENGTH))
        for call in (first, base, second):
            await read_all(call)


async def test_tokens_count_whether_they_are_read_or_not(model):
    async with serve(model, FakeEngine()) as served:
        served.store.quotas["acme"] = TenantQuotas(max_tokens_per_minute=10)
        call = served.stub.Generate(request())
        inner = await served.engine.next_request()
        request_id = inner.request_id
        served.engine.send(Started(request_id, 0, 0.0, 0.0), Tokens(request_id, (5,) * 20))
        await call.read()
        assert await refused(served.stub.Generate(request())) == EXCEEDED
        # The running stream is not cut.
        served.engine.send(Tokens(request_id, (6, 7)), Finished(request_id, FinishReason.LENGTH))
        tokens = [id for response in await read_all(call) for id in response.delta.token_ids]
        assert tokens.count(5) + 2 == len(tokens) == 22


async def test_with_access_control_the_base_model_counts_for_the_caller(model):
    async def authenticate(secret: str) -> Caller:
        return ACME

    async with serve(model, FakeEngine(generate([5])), TokenGate(authenticate)) as served:
        served.store.quotas["acme"] = TenantQuotas(max_tokens_per_minute=1)
        bearer = (("authorization", "Bearer x"),)
        await read_all(served.stub.Generate(request(adapter=""), metadata=bearer))
        assert await refused(served.stub.Generate(request(adapter=""), metadata=bearer)) == EXCEEDED


async def test_the_engine_hears_a_tenants_share_of_the_pool_before_its_request(model):
    async with serve(model, FakeEngine(generate([5]))) as served:
        for size in (100, 100, 0, 0):
            served.store.quotas["acme"] = TenantQuotas(max_resident_bytes=size)
            served.servicer._tenants._directory.change("TENANT_UPDATED", "tenants/acme")
            await read_all(served.stub.Generate(request()))
        kinds = [await served.engine.next_command() for _ in range(6)]
        assert [type(each) for each in kinds] == [
            SetTenantQuota, Submit, Submit, SetTenantQuota, Submit, Submit,
        ]  # fmt: skip
        assert (kinds[0], kinds[3]) == (SetTenantQuota("acme", 100), SetTenantQuota("acme", 0))
