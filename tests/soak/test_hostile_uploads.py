"""Uploads that are never meant to end: huge claims, thousands half open, paths out of the directory."""

import asyncio
import hashlib
from pathlib import Path

import grpc
import pytest

from protos.multilora.v1 import adapter_store_pb2 as pb
from protos.multilora.v1 import adapter_store_pb2_grpc as pb_grpc
from services.adapter_store.servicer import wire
from tests.adapter_files import BASE_MODEL, CONFIG, WEIGHTS, adapter_files, declared
from tests.integration.adapter_store.store_process import StoreProcess, push, read, register
from tests.soak.process_memory import resident_bytes

HALF_OPEN = 10_000
OPEN_A_ADAPTER = 16
CLAIMED_BYTES = 10 << 30
# What 10,000 calls under way take in gRPC itself: about 20 KiB each.
MAX_GROWTH_BYTES = 512 << 20
PATHS = (
    "../x.json",
    "/etc/x.json",
    "a/../../x.json",
    "./x.json",
    "a//x.json",
    "a/./x.json",
    ".hidden.json",
    "a\\..\\x.json",
    "a\x00.json",
    "\u2025/x.json",
    "x.json/",
    "~/x.json",
    "con/../../../x.json",
    "%2e%2e/x.json",
)
NAMES = ("../x", "acme/..", "acme/../x", "./x", "acme/.x", "/acme/x", "acme//x", "acme/x\x00", "..%2f/x")

pytestmark = pytest.mark.soak


@pytest.fixture
def process(tmp_path: Path):
    with StoreProcess(tmp_path / "store", tmp_path / "log", "--max-upload-bytes", "16GiB") as process:
        register(process.stub)
        yield process


def files_around(directory: Path) -> list[str]:
    return sorted(
        str(path) for path in directory.rglob("*") if "store" not in path.relative_to(directory).parts
    )


def claim(path: str, size_bytes: int) -> pb.VersionFile:
    return pb.VersionFile(path=path, size_bytes=size_bytes, sha256=hashlib.sha256(path.encode()).hexdigest())


def test_names_and_paths_stay_in_the_data_directory(process, tmp_path):
    before = files_around(tmp_path.parent)
    fine = wire.files(declared(adapter_files()))
    for path in PATHS:
        with pytest.raises(grpc.RpcError) as caught:
            process.stub.StartUpload(
                pb.StartUploadRequest(parent="acme/support", files=[*fine, claim(path, 1)])
            )
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, path
    for name in NAMES:
        adapter = pb.Adapter(name=name, base_model=BASE_MODEL.name)
        with pytest.raises(grpc.RpcError) as caught:
            process.stub.CreateAdapter(pb.CreateAdapterRequest(adapter=adapter))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, name
        for rpc, request in (
            (process.stub.GetUpload, pb.GetUploadRequest(upload_id=name)),
            (process.stub.AbortUpload, pb.AbortUploadRequest(upload_id=name)),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                rpc(request)
            assert caught.value.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT), name
    assert files_around(tmp_path.parent) == before


def test_a_claim_of_10_gb_takes_neither_memory_nor_disk(process, tmp_path):
    config = wire.files(declared({CONFIG: adapter_files()[CONFIG]}))
    before = resident_bytes(process.process.pid)
    for _ in range(OPEN_A_ADAPTER):
        request = pb.StartUploadRequest(parent="acme/support", files=[*config, claim(WEIGHTS, CLAIMED_BYTES)])
        process.stub.StartUpload(request)
    used = sum(path.stat().st_blocks * 512 for path in tmp_path.rglob("*") if path.is_file())
    assert used < 16 << 20, used
    assert resident_bytes(process.process.pid) - before < 32 << 20


async def test_thousands_of_half_open_uploads_leave_the_store_answering(process, rounds):
    count = rounds(HALF_OPEN, least=500)
    before = resident_bytes(process.process.pid)
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(process.address, options=options) as channel:
        stub = pb_grpc.AdapterStoreServiceStub(channel)
        upload_ids = [await start(stub, f"acme/a{n // OPEN_A_ADAPTER}", n) for n in range(count)]
        calls = [await half_open(stub, upload_id) for upload_id in upload_ids]
        grown = resident_bytes(process.process.pid) - before
        assert grown < MAX_GROWTH_BYTES, f"{grown >> 20} MiB"
        version = await asyncio.to_thread(push, process.stub, "acme/support", adapter_files())
        assert version.state == pb.ACTIVE
        assert (
            await asyncio.to_thread(read, process.stub, "acme/support@1", CONFIG) == adapter_files()[CONFIG]
        )
        for call in calls:
            call.cancel()
    status = process.stub.GetUpload(pb.GetUploadRequest(upload_id=upload_ids[0]))
    assert status.upload_id == upload_ids[0]


async def start(stub, name: str, number: int) -> str:
    if number % OPEN_A_ADAPTER == 0:
        await stub.CreateAdapter(
            pb.CreateAdapterRequest(adapter=pb.Adapter(name=name, base_model=BASE_MODEL.name))
        )
    files = [*wire.files(declared({CONFIG: adapter_files()[CONFIG]})), claim(WEIGHTS, CLAIMED_BYTES)]
    return (await stub.StartUpload(pb.StartUploadRequest(parent=name, files=files))).upload_id


async def half_open(stub, upload_id: str):
    call = stub.Upload()
    await call.write(pb.UploadRequest(upload_id=upload_id, path=WEIGHTS, data=b"x" * 1000))
    return call
