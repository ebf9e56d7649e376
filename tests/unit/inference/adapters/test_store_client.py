"""The store client against a store that misbehaves; the real store is in the integration tests."""

import asyncio
import hashlib
import threading

import google_crc32c
import grpc
import pytest

from protos.multilora.v1 import adapter_store_pb2 as pb
from protos.multilora.v1.adapter_store_pb2_grpc import (
    AdapterStoreServiceServicer,
    add_AdapterStoreServiceServicer_to_server,
)
from services.common.errors import Code, Reason, ServiceError, not_found
from services.common.interceptors import ErrorInterceptor
from services.common.rpc_meter import RpcMeter
from services.common.tracing import Tracing
from services.inference.adapters.store_client import AsyncStoreClient
from services.inference.adapters.store_link import StoreLink
from services.inference.adapters.store_reader import StoreReader
from services.inference.request import AdapterFile, adapter_key

DATA = bytes(range(250)) * 40
FILE = AdapterFile("adapter_model.safetensors", len(DATA), hashlib.sha256(DATA).hexdigest())
KEY = adapter_key((FILE,))
NAME = "tenants/acme/adapters/support/versions/3"
CHUNK = 1000


class ScriptedStore(AdapterStoreServiceServicer):
    """Answers with `version`, or raises `error`; reads give `chunks`."""

    def __init__(self):
        self.error = None
        self.version = pb.AdapterVersion(
            name=NAME, version=3, key=KEY, state=pb.ACTIVE, rank=8, base_model="tiny",
            files=[pb.VersionFile(path=FILE.path, size_bytes=FILE.size_bytes, sha256=FILE.sha256)],
        )  # fmt: skip
        self.chunks = [chunk(DATA[start : start + CHUNK]) for start in range(0, len(DATA), CHUNK)]
        self.hang_after = None
        self.hanging = threading.Event()

    async def ResolveVersion(self, request, context):
        if self.error is not None:
            raise self.error
        return self.version

    async def Read(self, request, context):
        if self.error is not None:
            raise self.error
        assert (request.name, request.path) == (NAME, FILE.path)
        for index, message in enumerate(self.chunks):
            if index == self.hang_after:
                self.hanging.set()
                await asyncio.Event().wait()
            yield message


def chunk(data, crc32c=None):
    return pb.ReadResponse(data=data, crc32c=google_crc32c.value(data) if crc32c is None else crc32c)


@pytest.fixture
async def store():
    servicer = ScriptedStore()
    server = grpc.aio.server(interceptors=[ErrorInterceptor(RpcMeter(), Tracing())])
    add_AdapterStoreServiceServicer_to_server(servicer, server)
    servicer.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    servicer.server = server
    await server.start()
    yield servicer
    await server.stop(None)


@pytest.fixture
async def client(store):
    client = AsyncStoreClient(StoreLink(store.address), "tiny")
    yield client
    await client.close()


@pytest.fixture
def reader(store):
    reader = StoreReader(StoreLink(store.address))
    yield reader
    reader.close()


async def test_a_name_is_resolved_to_key_version_and_files(client):
    adapter = (await client.resolve("acme/support")).adapter
    assert (adapter.key, adapter.version_name, adapter.rank, adapter.files) == (KEY, NAME, 8, (FILE,))


async def test_the_store_is_asked_each_time(client, store):
    await client.resolve("acme/support")
    store.version.files[0].size_bytes += 1
    changed = AdapterFile(FILE.path, FILE.size_bytes + 1, FILE.sha256)
    store.version.key = adapter_key((changed,))
    assert (await client.resolve("acme/support")).adapter.key == adapter_key((changed,))


async def test_while_the_store_is_silent_a_name_means_what_it_last_meant(client, store):
    known = await client.resolve("acme/support@3")
    store.error = ServiceError(Code.UNAVAILABLE, Reason.DRAINING, "going away", retry_after_s=2)
    assert await client.resolve("acme/support@3") == known
    await store.server.stop(None)
    assert await client.resolve("acme/support@3") == known
    with pytest.raises(ServiceError) as caught:
        await client.resolve("acme/other")
    assert (caught.value.code, caught.value.reason) == (Code.UNAVAILABLE, Reason.STORE_UNAVAILABLE)
    assert caught.value.retry_after_s == 1.0
    assert store.address not in caught.value.message


@pytest.mark.parametrize(
    "refusal",
    [
        not_found(Reason.ALIAS_NOT_FOUND, "no alias staging: set it first"),
        ServiceError(Code.FAILED_PRECONDITION, Reason.VERSION_NOT_ACTIVE, "version 3 is disabled"),
        ServiceError(Code.INVALID_ARGUMENT, Reason.INVALID_FIELD, "name: what is this?", field="name"),
    ],
)
async def test_a_refusal_keeps_its_words_and_forgets_what_the_name_meant(client, store, refusal):
    await client.resolve("acme/support@3")
    store.error = refusal
    with pytest.raises(ServiceError) as caught:
        await client.resolve("acme/support@3")
    error = caught.value
    assert (error.code, error.reason, error.message, error.field) == (
        refusal.code, refusal.reason, refusal.message, refusal.field
    )  # fmt: skip
    store.error = ServiceError(Code.UNAVAILABLE, Reason.DRAINING, "going away")
    with pytest.raises(ServiceError) as caught:
        await client.resolve("acme/support@3")
    assert caught.value.reason is Reason.STORE_UNAVAILABLE


async def test_an_adapter_of_another_base_model_is_refused(client, store):
    store.version.base_model = "huge"
    with pytest.raises(ServiceError) as caught:
        await client.resolve("acme/support")
    assert (caught.value.code, caught.value.reason) == (Code.FAILED_PRECONDITION, Reason.BASE_MODEL_MISMATCH)
    assert "'huge'" in caught.value.message
    assert "'tiny'" in caught.value.message


@pytest.mark.parametrize("key", ["../../etc/passwd", "", "a" * 64])
async def test_a_key_that_is_not_that_of_the_files_is_not_taken(client, store, key):
    store.version.key = key
    with pytest.raises(ServiceError, match="not that of its files") as caught:
        await client.resolve("acme/support")
    assert (caught.value.code, caught.value.reason) == (Code.DATA_LOSS, Reason.CORRUPT_BLOB)


def never():
    return False


async def read(reader, to, cancelled=never):
    await asyncio.to_thread(reader.read, NAME, FILE, to, cancelled)


async def test_a_file_is_read_whole(reader, tmp_path):
    await read(reader, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == DATA
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def _flip(chunks):
    chunks[4] = chunk(b"\xff" + chunks[4].data[1:], crc32c=chunks[4].crc32c)


def _flip_before_the_checksum(chunks):
    chunks[4] = chunk(b"\xff" + chunks[4].data[1:])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_flip, "crc32c differs at byte 4000"),
        (_flip_before_the_checksum, "sha256 differs"),
        (lambda chunks: chunks.pop(), "size or sha256 differs"),
        (lambda chunks: chunks.append(chunk(b"x")), "longer than"),
        (lambda chunks: chunks.clear(), "size or sha256 differs"),
    ],
)
async def test_damage_on_the_way_is_data_loss_and_nothing_is_kept(reader, store, tmp_path, damage, words):
    damage(store.chunks)
    with pytest.raises(ServiceError, match=words) as caught:
        await read(reader, tmp_path / "file")
    assert (caught.value.code, caught.value.reason) == (Code.DATA_LOSS, Reason.CORRUPT_BLOB)
    assert list(tmp_path.iterdir()) == []


async def test_what_the_store_says_of_a_read_is_passed_on(reader, store, tmp_path):
    store.error = not_found(Reason.FILE_NOT_FOUND, "no such file")
    with pytest.raises(ServiceError) as caught:
        await read(reader, tmp_path / "file")
    assert (caught.value.code, caught.value.reason) == (Code.NOT_FOUND, Reason.FILE_NOT_FOUND)


async def test_a_read_that_is_cancelled_keeps_nothing(reader, tmp_path):
    with pytest.raises(ServiceError, match="stopping"):
        await read(reader, tmp_path / "file", cancelled=lambda: True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("who", ["reader closes", "store dies"])
async def test_a_read_that_hangs_ends_with_the_reader_or_the_store(reader, store, tmp_path, who):
    store.hang_after = 3
    reading = asyncio.create_task(read(reader, tmp_path / "file"))
    await asyncio.to_thread(store.hanging.wait, 10)
    if who == "reader closes":
        reader.close()
    else:
        await store.server.stop(None)
    with pytest.raises(ServiceError) as caught:
        await reading
    assert caught.value.reason is Reason.STORE_UNAVAILABLE
    assert list(tmp_path.iterdir()) == []
