"""Leases and garbage over a real gRPC server; collection on a schedule."""

import asyncio

import grpc
import pytest

from protos.multilora.v1 import adapter_store_pb2 as pb
from services.adapter_store.garbage.schedule import collect_regularly
from services.adapter_store.imports import ImportProgress
from services.adapter_store.imports.importer import ImportCancelledError
from services.adapter_store.servicer import wire
from tests.adapter_files import BASE_MODEL, adapter_files, declared
from tests.integration.adapter_store.store_process import chunks, error_info

NAME = "acme/support"
FILES = adapter_files()


@pytest.fixture
async def store(stub):
    """The stub, with the base model and an adapter."""
    await stub.RegisterBaseModel(pb.RegisterBaseModelRequest(base_model=wire.base_model(BASE_MODEL)))
    await stub.CreateAdapter(
        pb.CreateAdapterRequest(adapter=pb.Adapter(name=NAME, base_model=BASE_MODEL.name))
    )
    return stub


async def give_up(stub):
    """Leaves two blobs behind that nothing refers to."""
    started = await stub.StartUpload(pb.StartUploadRequest(parent=NAME, files=wire.files(declared(FILES))))
    for file in started.persisted:
        await stub.Upload(chunks(started.upload_id, file.path, FILES[file.path], file.persisted_bytes))
    await stub.AbortUpload(pb.AbortUploadRequest(upload_id=started.upload_id))


async def test_garbage_is_told_in_a_dry_run_and_freed_without(store):
    await give_up(store)
    dry = await store.CollectGarbage(pb.CollectGarbageRequest(dry_run=True, min_age_s=0))
    assert (dry.freed_blobs, dry.freed_bytes) == (2, sum(map(len, FILES.values())))
    assert await store.CollectGarbage(pb.CollectGarbageRequest()) == pb.CollectGarbageResponse()
    assert await store.CollectGarbage(pb.CollectGarbageRequest(min_age_s=0)) == dry
    assert (await store.CollectGarbage(pb.CollectGarbageRequest(min_age_s=0))).freed_blobs == 0


async def test_a_lease_is_acquired_renewed_and_released(store):
    request = pb.AcquireLeaseRequest(lease_id="serve-1", holder="a", keys=["a" * 64], ttl_s=30)
    first = await store.AcquireLease(request)
    assert (first.lease_id, first.holder, first.num_keys) == ("serve-1", "a", 1)
    second = await store.AcquireLease(request)
    assert second.expire_time.ToNanoseconds() > first.expire_time.ToNanoseconds()
    await store.ReleaseLease(pb.ReleaseLeaseRequest(lease_id="serve-1"))
    await store.ReleaseLease(pb.ReleaseLeaseRequest(lease_id="serve-1"))
    request.keys.append("no key")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await store.AcquireLease(request)
    assert error_info(caught.value).metadata["field"] == "keys[1]"


async def test_the_most_keys_of_one_lease_fit_one_message(store):
    keys = [f"{number:064x}" for number in range(50_000)]
    lease = await store.AcquireLease(pb.AcquireLeaseRequest(lease_id="serve-1", keys=keys))
    assert lease.num_keys == 50_000


async def test_a_schedule_collects_until_it_is_cancelled_and_survives_failures():
    calls = []
    done = asyncio.Event()
    loop = asyncio.get_running_loop()

    class Failing:
        def collect(self, dry_run, *, is_stopping):
            calls.append((dry_run, is_stopping()))
            if len(calls) == 1:
                raise OSError("the bucket is away")
            loop.call_soon_threadsafe(done.set)

    task = asyncio.create_task(collect_regularly(Failing(), 0.001))
    await asyncio.wait_for(done.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert calls[:2] == [(False, False), (False, False)]


def import_request(**more):
    return pb.ImportVersionRequest(parent=NAME, source="support", request_id="r", **more)


def make_source(tmp_path):
    (tmp_path / "importable" / "support").mkdir()
    for path, data in FILES.items():
        (tmp_path / "importable" / "support" / path).write_bytes(data)


async def test_an_import_tells_its_progress_and_then_the_version(store, tmp_path):
    make_source(tmp_path)
    responses = [response async for response in store.ImportVersion(import_request())]
    assert [response.WhichOneof("event") for response in responses[-2:]] == ["progress", "version"]
    assert {each.progress.path for each in responses[:-1]} == set(FILES)
    version = responses[-1].version
    assert (version.state, version.lineage.notes) == (pb.ACTIVE, "imported from support")
    (again,) = [response async for response in store.ImportVersion(import_request())]
    assert again.version == version


async def test_a_source_that_is_not_there_is_refused_by_field(store):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await anext(aiter(store.ImportVersion(import_request())))
    info = error_info(caught.value)
    assert (info.reason, info.metadata["field"]) == ("SOURCE_NOT_FOUND", "source")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_whoever_leaves_ends_the_import(store, at_rest, tmp_path):
    make_source(tmp_path)
    is_reading, ended = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    class Endless:
        def run(self, request, actor, report, is_cancelled):
            loop.call_soon_threadsafe(is_reading.set)
            while not is_cancelled():
                report(ImportProgress("x", 1, 2))
            loop.call_soon_threadsafe(ended.set)
            raise ImportCancelledError

    at_rest.importer = Endless()
    call = store.ImportVersion(import_request())
    assert (await call.read()).progress.total_bytes == 2
    await asyncio.wait_for(is_reading.wait(), 10)
    call.cancel()
    await asyncio.wait_for(ended.wait(), 10)
