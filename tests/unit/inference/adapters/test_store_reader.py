"""Reads straight from object storage, and through the store where that fails."""

import asyncio
import hashlib
import random

import google_crc32c
import grpc
import pytest

from protos.multilora.v1 import adapter_store_pb2 as pb
from protos.multilora.v1.adapter_store_pb2_grpc import (
    AdapterStoreServiceServicer,
    add_AdapterStoreServiceServicer_to_server,
)
from services.common.errors import Code, Reason, ServiceError
from services.common.interceptors import ErrorInterceptor
from services.common.rpc_meter import RpcMeter
from services.common.tracing import Tracing
from services.inference.adapters.direct_read import DirectReads
from services.inference.adapters.store_link import StoreLink
from services.inference.adapters.store_reader import StoreReader
from services.inference.request import AdapterFile
from tests.http_file import serve

DATA = random.Random(5).randbytes((2 << 20) + 77)
FILE = AdapterFile("adapter_model.safetensors", len(DATA), hashlib.sha256(DATA).hexdigest())
SMALL = AdapterFile("adapter_config.json", 3, hashlib.sha256(b"abc").hexdigest())
NAME = "tenants/acme/adapters/support/versions/3"


class CountingStore(AdapterStoreServiceServicer):
    """Hands out `url`, or refuses with `refusal`; Read gives `data`."""

    def __init__(self):
        self.url = ""
        self.refusal = None
        self.data = DATA
        self.num_reads = 0
        self.num_resolves = 0

    async def ResolveVersion(self, request, context):
        assert (request.name, request.read_urls) == (NAME, True)
        self.num_resolves += 1
        if self.refusal is not None:
            raise self.refusal
        return pb.AdapterVersion(name=NAME, files=[pb.VersionFile(path=FILE.path, read_url=self.url)])

    async def Read(self, request, context):
        self.num_reads += 1
        data = self.data if request.path == FILE.path else b"abc"
        for start in range(0, len(data), 1 << 20):
            chunk = data[start : start + (1 << 20)]
            yield pb.ReadResponse(data=chunk, crc32c=google_crc32c.value(chunk))


@pytest.fixture
def http():
    with serve(DATA) as file:
        yield file


@pytest.fixture
async def store(http):
    servicer = CountingStore()
    servicer.url = http.url
    server = grpc.aio.server(interceptors=[ErrorInterceptor(RpcMeter(), Tracing())])
    add_AdapterStoreServiceServicer_to_server(servicer, server)
    servicer.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield servicer
    await server.stop(None)


async def read(store, to, file=FILE, direct=True):
    reader = StoreReader(StoreLink(store.address), DirectReads() if direct else None)
    try:
        await asyncio.to_thread(reader.read, NAME, file, to, lambda: False)
    finally:
        reader.close()
    return to.read_bytes()


async def test_a_large_file_comes_from_object_storage_and_its_url_is_asked_each_time(store, http, tmp_path):
    for number in (1, 2):
        assert await read(store, tmp_path / "w") == DATA
        assert (http.num_gets, store.num_resolves, store.num_reads) == (number, number, 0)


async def test_a_small_file_comes_through_the_store(store, http, tmp_path):
    assert await read(store, tmp_path / "c", SMALL) == b"abc"
    assert (http.num_gets, store.num_resolves, store.num_reads) == (0, 0, 1)


async def test_direct_reads_can_be_off(store, http, tmp_path):
    assert await read(store, tmp_path / "w", direct=False) == DATA
    assert (http.num_gets, store.num_resolves, store.num_reads) == (0, 0, 1)


@pytest.mark.parametrize("body", [DATA[:-1], DATA + b"x", bytes([DATA[0] ^ 1]) + DATA[1:]])
async def test_wrong_bytes_from_object_storage_are_read_again_through_the_store(store, http, tmp_path, body):
    http.body = body
    assert await read(store, tmp_path / "w") == DATA
    assert (http.num_gets, store.num_reads) == (1, 1)


async def test_without_a_url_or_with_a_dead_one_it_comes_through_the_store(store, http, tmp_path):
    disabled = ServiceError(Code.FAILED_PRECONDITION, Reason.VERSION_NOT_ACTIVE, "disabled")
    for url, refusal in (("", None), ("http://127.0.0.1:1/x", None), (http.url, disabled)):
        store.url, store.refusal = url, refusal
        assert await read(store, tmp_path / "w") == DATA
    assert (http.num_gets, store.num_reads) == (0, 3)


async def test_bytes_that_are_wrong_either_way_are_never_there(store, http, tmp_path):
    http.body = store.data = bytes([DATA[0] ^ 1]) + DATA[1:]
    with pytest.raises(ServiceError) as caught:
        await read(store, tmp_path / "w")
    assert (caught.value.code, caught.value.reason) == (Code.DATA_LOSS, Reason.CORRUPT_BLOB)
    assert list(tmp_path.iterdir()) == []
