"""A real gRPC server of the store in this process."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from protos.multilora.v1 import adapter_store_pb2_grpc as pb_grpc
from services.adapter_store.blobs import LocalBlobs
from services.adapter_store.imports import ImportPlaces, ImportRoom
from services.adapter_store.metadata import Database
from services.adapter_store.servicer import SERVICE_NAME, add_to_server
from services.adapter_store.settings import PlaceSettings
from services.adapter_store.staging import LocalStaging
from services.adapter_store.store import Store, open_store, utc_now
from services.common.gate import OpenGate
from services.common.server import Server
from tests.adapter_files import BASE_MODEL
from tests.integration.adapter_store.import_world import NAME


@pytest.fixture
def at_rest(tmp_path: Path, database_url: str):
    """The store of this test; whole when the test is over."""
    place = PlaceSettings(data_dir=tmp_path / "store", database_url=database_url)
    (tmp_path / "importable").mkdir()
    places = ImportPlaces(directories=(tmp_path / "importable",))
    with open_store(place, 64 << 20, places) as store:
        store.uploads.recover()
        yield store
        assert store.check_integrity() == []


@pytest.fixture
async def stub(at_rest: Store) -> AsyncIterator[pb_grpc.AdapterStoreServiceStub]:
    """An aio stub of a running service."""
    with ThreadPoolExecutor(8) as threads:
        asyncio.get_running_loop().set_default_executor(threads)
        server = Server("127.0.0.1:0", SERVICE_NAME)
        add_to_server(at_rest, server.inner, OpenGate())
        address = await server.start()
        async with grpc.aio.insecure_channel(address) as channel:
            yield pb_grpc.AdapterStoreServiceStub(channel)
        await server.inner.stop(None)


@pytest.fixture
def make_store(tmp_path, sqlite_url):
    """Makes the store of this test, with what it may import from."""
    databases = []

    def make(max_scratch_bytes=1 << 30, **places) -> Store:
        database = Database(sqlite_url)
        databases.append(database)
        blobs = LocalBlobs(tmp_path / "blobs")
        staging = LocalStaging(tmp_path / "uploads", blobs)
        room = ImportRoom(tmp_path / "imports", ImportPlaces(**places), max_scratch_bytes)
        store = Store(database, blobs, staging, 1 << 20, utc_now, room)
        store.base_models.register(BASE_MODEL)
        if len(databases) == 1:
            store.adapters.create(NAME, BASE_MODEL.name, "", "", {})
        return store

    yield make
    for database in databases:
        database.close()
