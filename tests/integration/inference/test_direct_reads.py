"""Files read straight from a real S3 server, by URLs that a real store signed."""

import asyncio
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from protos.multilora.v1 import adapter_store_pb2 as pb
from protos.multilora.v1.adapter_store_pb2_grpc import AdapterStoreServiceStub
from services.adapter_store.domain.names import AdapterName
from services.adapter_store.domain.version import Lineage
from services.adapter_store.servicer import SERVICE_NAME, add_to_server, transfer
from services.common.errors import Code, Reason, ServiceError
from services.common.gate import OpenGate
from services.common.server import Server
from services.inference.adapters.direct_read import DirectReads
from services.inference.adapters.store_link import StoreLink
from services.inference.adapters.store_reader import StoreReader
from services.inference.request import AdapterFile
from tests.adapter_files import BASE_MODEL, declared, large_adapter_files
from tests.s3_server import BUCKET
from tests.s3_stores import open_replica  # noqa: F401

BIG = "README.md"


def publish(store, name, seed):
    files = large_adapter_files(3 << 20, seed=seed)
    store.adapters.create(name, BASE_MODEL.name, "", "", {})
    upload, _ = store.uploads.start(name, declared(files), {}, Lineage(), "")
    for path in files.keys() - upload.stored:
        target, data = store.intake.open_file(upload.id, path), files[path]
        for offset in range(0, len(data), 1 << 20):
            store.intake.append(target, offset, data[offset : offset + (1 << 20)], None)
        store.intake.finish_file(target)
    return store.uploads.finish(upload.id), files


def big_file(version):
    (file,) = (file for file in version.files if file.path == BIG)
    return AdapterFile(file.path, file.size_bytes, file.sha256)


@pytest.fixture
async def served(open_replica):  # noqa: F811
    """A store whose blobs lie in S3, the address of a server of it, and two versions."""
    store, _, _ = open_replica()
    store.base_models.register(BASE_MODEL)
    first = publish(store, AdapterName("acme", "first"), 1)
    second = publish(store, AdapterName("acme", "second"), 2)
    with ThreadPoolExecutor(8) as threads:
        asyncio.get_running_loop().set_default_executor(threads)
        server = Server("127.0.0.1:0", SERVICE_NAME)
        add_to_server(store, server.inner, OpenGate())
        address = await server.start()
        yield address, first, second
        await server.inner.stop(None)


async def read(address, version, to):
    reader = StoreReader(StoreLink(address), DirectReads())
    try:
        await asyncio.to_thread(reader.read, version.name, big_file(version), to, lambda: False)
    finally:
        reader.close()
    return to.read_bytes()


async def test_bytes_come_without_the_store(served, tmp_path, monkeypatch):
    address, (version, files), _ = served
    monkeypatch.setattr(transfer, "give", None)
    assert await read(address, version, tmp_path / "w") == files[BIG]


async def test_urls_are_there_when_asked_for_and_only_for_a_while(served, s3_server):
    address, (version, files), _ = served
    async with grpc.aio.insecure_channel(address) as channel:
        stub = AdapterStoreServiceStub(channel)
        plain = await stub.ResolveVersion(pb.ResolveVersionRequest(name=version.name))
        found = await stub.ResolveVersion(pb.ResolveVersionRequest(name=version.name, read_urls=True))
    assert [file.read_url for file in plain.files] == ["", "", ""]
    for file in found.files:
        assert file.read_url.startswith(s3_server.endpoint)
        assert "X-Amz-Expires=60&" in file.read_url
        assert file.read_url_expire_time.seconds > 0

        def get(url=file.read_url):
            with urllib.request.urlopen(url, timeout=10) as response:
                return response.read()

        assert await asyncio.to_thread(get) == files[file.path]


async def test_a_byte_flipped_in_an_object_is_found_and_other_adapters_are_served(
    served, s3_server, s3_prefix, tmp_path
):
    address, (version, files), (other, other_files) = served
    client, sha256 = s3_server.client(), big_file(version).sha256
    (key,) = (
        found.object_name
        for found in client.list_objects(BUCKET, prefix=f"{s3_prefix}/blobs/", recursive=True)
        if found.object_name.endswith(sha256)
    )
    damaged = tmp_path / "damaged"
    damaged.write_bytes(bytes([files[BIG][0] ^ 1]) + files[BIG][1:])
    client.fput_object(BUCKET, key, str(damaged))
    to = tmp_path / "w"
    with pytest.raises(ServiceError) as caught:
        await read(address, version, to)
    assert (caught.value.code, caught.value.reason) == (Code.DATA_LOSS, Reason.CORRUPT_BLOB)
    assert not to.exists()
    assert await read(address, other, to) == other_files[BIG]
