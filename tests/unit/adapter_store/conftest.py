"""A store over a temporary directory, without a server."""

import io
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection

from services.adapter_store.blobs import LocalBlobs
from services.adapter_store.domain.garbage import DELETED_GRACE
from services.adapter_store.domain.names import AdapterName
from services.adapter_store.domain.version import AdapterVersion, Lineage, WeightsSummary
from services.adapter_store.manifest import validate
from services.adapter_store.metadata import Database
from services.adapter_store.metadata.database_clock import database_time
from services.adapter_store.staging import LocalStaging
from services.adapter_store.store import Store
from tests.adapter_files import BASE_MODEL, adapter_files, declared, sha256

NAME = AdapterName("acme", "support")


class Clock:
    """A clock that goes on by a second each time it is read."""

    def __init__(self) -> None:
        self._now = datetime(2030, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        self._now += timedelta(seconds=1)
        return self._now


@pytest.fixture
def open_a_store(tmp_path: Path, database_url: str) -> Iterator[Callable[..., Store]]:
    """Opens the store of this test again and again, as restarts would; also with other clocks and graces."""
    databases: list[Database] = []

    def open_one(
        database_clock: Callable[[Connection], datetime] = database_time,
        deleted_grace: timedelta = DELETED_GRACE,
    ) -> Store:
        database = Database(database_url, database_clock)
        databases.append(database)
        blobs = LocalBlobs(tmp_path / "blobs")
        staging = LocalStaging(tmp_path / "uploads", blobs)
        store = Store(database, blobs, staging, 1 << 20, Clock(), deleted_grace=deleted_grace)
        store.uploads.recover()
        return store

    yield open_one
    for database in databases:
        database.close()


@pytest.fixture
def store(open_a_store: Callable[..., Store]) -> Iterator[Store]:
    """A store with a base model and the adapter acme/support; whole when the test is over."""
    store = open_a_store()
    store.base_models.register(BASE_MODEL)
    store.adapters.create(NAME, BASE_MODEL.name, "", "", {})
    yield store
    assert store.check_integrity() == []


def send(store: Store, upload_id: str, files: Mapping[str, bytes]) -> None:
    """Sends whole files."""
    for path, data in files.items():
        target = store.intake.open_file(upload_id, path)
        store.intake.append(target, 0, data, None)
        store.intake.finish_file(target)


def publish(
    store: Store, files: Mapping[str, bytes] | None = None, name: AdapterName = NAME
) -> AdapterVersion:
    """Uploads `files` as a new version; by default the same fine ones each time."""
    files = adapter_files() if files is None else files
    upload, persisted = store.uploads.start(name, declared(files), {}, Lineage(), "")
    send(store, upload.id, {p.path: files[p.path] for p in persisted if p.path not in upload.stored})
    return store.uploads.finish(upload.id)


def judge(files: Mapping[str, bytes]) -> WeightsSummary:
    """Validates `files` against the tiny base model."""
    by_digest = {sha256(data): data for data in files.values()}
    return validate(declared(files), lambda digest: io.BytesIO(by_digest[digest]), BASE_MODEL)
