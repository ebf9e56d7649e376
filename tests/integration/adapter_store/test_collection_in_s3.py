"""Collection in a real bucket: both ways of the scan, and nothing of others that lie beside the blobs."""

import contextlib
import io

import pytest

from services.adapter_store.byte_places import open_byte_places
from services.adapter_store.domain.garbage import Garbage
from services.adapter_store.domain.names import AdapterName
from services.adapter_store.domain.version import Lineage
from services.adapter_store.metadata import Database
from services.adapter_store.settings import PlaceSettings
from services.adapter_store.store import Store, utc_now
from tests.adapter_files import BASE_MODEL, adapter_files, declared, layer, lora, sha256
from tests.s3_server import BUCKET

NAME = AdapterName("acme", "support")


@pytest.fixture
def store(s3_server, sqlite_url, s3_url, tmp_path, monkeypatch):
    for name, value in s3_server.environ.items():
        monkeypatch.setenv(name, value)
    place = PlaceSettings(data_dir=tmp_path, blob_url=s3_url)
    with (
        contextlib.closing(Database(sqlite_url)) as database,
        open_byte_places(place, tmp_path, database, utc_now) as (blobs, staging),
    ):
        store = Store(database, blobs, staging, 1 << 20)
        store.base_models.register(BASE_MODEL)
        store.adapters.create(NAME, BASE_MODEL.name, "", "", {})
        yield store


def upload(store, seed):
    files = adapter_files(lora(layer(0, "self_attn.q_proj"), seed=seed))
    started, _ = store.uploads.start(NAME, declared(files), {}, Lineage(), "")
    for path in sorted(files.keys() - started.stored):
        target = store.intake.open_file(started.id, path)
        store.intake.append(target, 0, files[path], None)
        store.intake.finish_file(target)
    return started


def test_what_nothing_refers_to_goes_and_what_is_missing_is_told(store, s3_server, s3_prefix):
    version = store.uploads.finish(upload(store, 1).id)
    store.uploads.abort(upload(store, 2).id)
    client, orphan = s3_server.client(), sha256(b"orphan")
    for key in (store.blobs.key(orphan), f"{s3_prefix}/somebody/else"):
        client.put_object(BUCKET, key, io.BytesIO(b"orphan"), 6)
    entries = [blob.sha256 for blob in store.blobs.entries()]
    assert entries == sorted(entries)
    found = store.garbage.collect(True, 0)
    assert (found.freed_blobs, found.orphaned_blobs, found.missing_sha256s) == (2, 1, ())
    assert store.garbage.collect(False, 0) == found
    assert {blob.sha256 for blob in store.blobs.entries()} == {file.sha256 for file in version.files}
    assert client.stat_object(BUCKET, f"{s3_prefix}/somebody/else").size == 6
    assert store.check_integrity() == []
    client.remove_object(BUCKET, store.blobs.key(version.files[0].sha256))
    assert store.garbage.collect(False, 0) == Garbage(missing_sha256s=(version.files[0].sha256,))
