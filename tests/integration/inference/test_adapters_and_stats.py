"""The other RPCs of InferenceService through a real gRPC server over a fake engine."""

import asyncio
import time
from dataclasses import fields

import grpc
import pytest

from protos.multilora.v1 import inference_pb2 as pb
from services.common.errors import Code, Reason, ServiceError
from services.inference.messages import (
    AdapterInfo,
    EngineStats,
    Freed,
    GetStats,
    ListResident,
    LoadAdapter,
    Reply,
    ResidencyState,
    UnloadAdapter,
)
from tests.fakes import READY, FakeEngine, adapter
from tests.integration.inference.served import DIGEST, SUPPORT, error_of, read_model, serve, write_model_dir


def info(number: int) -> AdapterInfo:
    version = adapter(f"tenants/acme/adapters/a{number:04}/versions/1")
    return AdapterInfo(
        version.version_name, version.key, ResidencyState.HOST, False, 8, 0, 4096, 1, 2, time.monotonic() - 60
    )


def answers(value) -> FakeEngine:
    """An engine that answers every call with `value`."""
    return FakeEngine(lambda command: [(Reply(command.call_id, value),)])


@pytest.fixture
def model(tmp_path):
    return read_model(write_model_dir(tmp_path))


async def refused(call) -> tuple[str, str, str, float | None]:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return error_of(raised.value)


async def test_get_model(model):
    async with serve(model, FakeEngine()) as served:
        reply = await served.stub.GetModel(pb.GetModelRequest())
    assert reply == pb.Model(
        base_model="demo",
        base_model_digest=DIGEST,
        architecture="LlamaForCausalLM",
        max_context_tokens=READY.max_context_tokens,
        max_rank=64,
        dtype="float32",
        device="cpu",
        target_modules=[
            *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
            *("embed_tokens", "lm_head"),
        ],
    )


async def test_load_takes_a_resolved_version_to_its_tier(model):
    async with serve(model, answers(info(7))) as served:
        request = pb.LoadAdapterRequest(adapter="acme/support", tier=pb.HOST, pin=True)
        reply = await served.stub.LoadAdapter(request)
        command = await served.engine.next_command()
        assert command == LoadAdapter(command.call_id, SUPPORT, ResidencyState.HOST, pin=True)
        await served.stub.LoadAdapter(pb.LoadAdapterRequest(adapter="acme/support"))
        assert (await served.engine.next_command()).tier == ResidencyState.DEVICE
    assert (reply.adapter_version, reply.key) == (info(7).version_name, info(7).key)
    assert (reply.residency, reply.rank, reply.host_bytes) == (pb.HOST, 8, 4096)
    assert (reply.running_requests, reply.waiting_requests) == (1, 2)
    assert reply.last_used_time.seconds == pytest.approx(time.time() - 60, abs=30)


def holding(*infos: AdapterInfo) -> FakeEngine:
    """An engine that holds `infos` and frees what it is told to."""

    def script(command):
        if isinstance(command, ListResident):
            return [(Reply(command.call_id, infos),)]
        return [(Reply(command.call_id, Freed(10, 20)),)]

    return FakeEngine(script)


@pytest.mark.parametrize("name", ["acme/a0007@1", "tenants/acme/adapters/a0007/versions/1"])
async def test_what_is_here_is_unloaded_by_its_own_name_whatever_the_store_says(model, name):
    """A disabled version does not resolve, nor does any while the store is down; pins must still go."""
    async with serve(model, holding(info(6), info(7))) as served:
        reply = await served.stub.UnloadAdapter(pb.UnloadAdapterRequest(adapter=name))
        assert isinstance(await served.engine.next_command(), ListResident)
        assert (await served.engine.next_command()).key == info(7).key
        assert served.store.resolved == []
    assert (reply.freed_device_bytes, reply.freed_host_bytes) == (10, 20)


async def test_unload_says_what_it_freed(model):
    async with serve(model, holding()) as served:
        reply = await served.stub.UnloadAdapter(pb.UnloadAdapterRequest(adapter="acme/support"))
        assert isinstance(await served.engine.next_command(), ListResident)
        command = await served.engine.next_command()
        assert command == UnloadAdapter(command.call_id, SUPPORT.key, "acme", ResidencyState.HOST)
        await served.stub.UnloadAdapter(pb.UnloadAdapterRequest(adapter="acme/support", tier=pb.DEVICE))
        assert isinstance(await served.engine.next_command(), ListResident)
        assert (await served.engine.next_command()).tier == ResidencyState.DEVICE
    assert (reply.freed_device_bytes, reply.freed_host_bytes) == (10, 20)


async def test_the_engines_refusal_of_a_load_reaches_the_caller(model):
    error = ServiceError(Code.FAILED_PRECONDITION, Reason.ADAPTER_NOT_LOADABLE, "pinned")
    async with serve(model, answers(error)) as served:
        got = await refused(served.stub.LoadAdapter(pb.LoadAdapterRequest(adapter="acme/support")))
    assert got == ("FAILED_PRECONDITION", "ADAPTER_NOT_LOADABLE", "", None)


@pytest.mark.parametrize("method", ["LoadAdapter", "UnloadAdapter"])
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"adapter": "acme/support", "tier": pb.REMOTE}, ("INVALID_ARGUMENT", "INVALID_FIELD", "tier", None)),
        ({"adapter": "acme/support", "tier": 77}, ("INVALID_ARGUMENT", "INVALID_FIELD", "tier", None)),
        ({"adapter": ""}, ("INVALID_ARGUMENT", "INVALID_FIELD", "adapter", None)),
        ({"adapter": "acme/nobody"}, ("NOT_FOUND", "ADAPTER_NOT_FOUND", "", None)),
    ],
)
async def test_bad_loads_and_unloads(model, method, values, expected):
    request = getattr(pb, f"{method}Request")(**values)
    async with serve(model, holding()) as served:
        assert await refused(getattr(served.stub, method)(request)) == expected


async def test_resident_adapters_are_listed_page_by_page(model):
    everything = tuple(info(number) for number in range(120))
    async with serve(model, answers(everything)) as served:
        names, token, sizes = [], "", []
        while True:
            request = pb.ListResidentAdaptersRequest(page_token=token)
            page = await served.stub.ListResidentAdapters(request)
            names += [row.adapter_version for row in page.adapters]
            sizes.append(len(page.adapters))
            token = page.next_page_token
            if not token:
                break
        assert sizes == [50, 50, 20]
        assert names == [row.version_name for row in everything]
        request = pb.ListResidentAdaptersRequest(page_size=5000)
        assert len((await served.stub.ListResidentAdapters(request)).adapters) == 120
        assert isinstance(await served.engine.next_command(), ListResident)


@pytest.mark.parametrize(
    ("values", "field"), [({"page_size": -1}, "page_size"), ({"page_token": "%%%"}, "page_token")]
)
async def test_bad_pages(model, values, field):
    async with serve(model, answers(())) as served:
        got = await refused(served.stub.ListResidentAdapters(pb.ListResidentAdaptersRequest(**values)))
    assert got == ("INVALID_ARGUMENT", "INVALID_FIELD", field, None)


async def test_every_counter_of_the_engine_reaches_the_wire(model):
    values = {field.name: index + 1 for index, field in enumerate(fields(EngineStats))}
    async with serve(model, answers(EngineStats(**values))) as served:
        stats = await served.stub.GetStats(pb.GetStatsRequest())
        command = await served.engine.next_command()
        assert command == GetStats(command.call_id)
    seen = sorted(n for part, n in _numbers(stats) if part not in ("store", "shadow"))
    assert seen == sorted(values.values())
    assert stats.steps.mixed == values["mixed_steps"]
    assert stats.cache.store_fetches == values["store_fetches"]
    assert stats.pool.peak_kv_pages == values["peak_kv_pages"]
    assert stats.requests.failed == values["failed_requests"]


def _numbers(message, part="") -> list[tuple[str, int]]:
    found = []
    for field, value in message.ListFields():
        is_nested = field.message_type is not None
        found += _numbers(value, part or field.name) if is_nested else [(part, value)]
    return found


async def test_a_draining_server_refuses_loads_but_shows_itself(model):
    async with serve(model, answers(())) as served:
        await asyncio.wait_for(served.servicer.drain(), 5)
        got = await refused(served.stub.LoadAdapter(pb.LoadAdapterRequest(adapter="acme/support")))
        assert got[:2] == ("UNAVAILABLE", "DRAINING")
        await served.stub.GetModel(pb.GetModelRequest())
        await served.stub.ListResidentAdapters(pb.ListResidentAdaptersRequest())


async def test_a_server_whose_model_is_still_loading_says_so(model):
    async with serve(model, FakeEngine()) as served:
        served.servicer._ready = None
        got = await refused(served.stub.GetModel(pb.GetModelRequest()))
    assert got[:2] == ("UNAVAILABLE", "ENGINE_DOWN")
    assert got[3] is not None
