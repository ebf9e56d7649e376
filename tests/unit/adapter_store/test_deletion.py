"""Storing and deleting the same bytes: whichever comes first, nobody loses what he counts on."""

from datetime import UTC, datetime

import pytest

from services.adapter_store.domain.blob import BlobState
from services.adapter_store.domain.version import Lineage
from services.adapter_store.garbage import claim, delete_condemned
from services.adapter_store.metadata import Database
from tests.adapter_files import adapter_files, declared
from tests.unit.adapter_store.conftest import NAME, publish, send

NOW = datetime(2040, 1, 1, tzinfo=UTC)
FILES = adapter_files()
FILE = declared(FILES)[0]


@pytest.fixture
def database(store, database_url):
    database = Database(database_url)
    yield database
    database.close()


def condemn(database, sha256=FILE.sha256):
    with database.write() as uow:
        if uow.blobs.condemn(sha256, NOW, NOW):
            uow.commit()
            return True
    return False


def state(database):
    with database.write() as uow:
        return uow.blobs.lock(FILE.sha256)


def aborted_upload(store):
    upload, _ = store.uploads.start(NAME, declared(FILES), {}, Lineage(), "")
    send(store, upload.id, FILES)
    store.uploads.abort(upload.id)


def test_what_a_version_refers_to_is_not_condemned(store, database):
    publish(store)
    assert state(database) is BlobState.STORED
    assert not condemn(database)
    assert state(database) is BlobState.STORED


def test_what_an_open_upload_refers_to_is_not_condemned_whether_stored_or_not(store, database):
    upload, _ = store.uploads.start(NAME, declared(FILES), {}, Lineage(), "")
    assert not condemn(database)
    send(store, upload.id, FILES)
    assert not condemn(database)


def test_what_nothing_refers_to_goes_with_its_row_and_whose_it_was(store, database):
    aborted_upload(store)
    assert condemn(database)
    delete_condemned(database, store.blobs, FILE.sha256)
    assert state(database) is None
    assert FILE.sha256 not in {entry.sha256 for entry in store.blobs.entries()}
    with database.read() as uow:
        assert not uow.uploads.tenant_has(NAME.tenant, FILE)


def test_bytes_that_are_being_deleted_are_not_counted_on_and_are_stored_again(store, database):
    aborted_upload(store)
    assert condemn(database)
    upload, persisted = store.uploads.start(NAME, declared(FILES), {}, Lineage(), "")
    assert FILE.path not in upload.stored
    assert persisted[0].persisted_bytes == 0
    send(store, upload.id, {p.path: FILES[p.path] for p in persisted if p.path not in upload.stored})
    assert state(database) is BlobState.STORED
    # Whoever began the deletion comes late: what is there now is not his to delete.
    delete_condemned(database, store.blobs, FILE.sha256)
    store.uploads.finish(upload.id)


def test_a_claim_finishes_the_deletion_of_what_no_row_knew(store, database):
    assert condemn(database)
    claim(database, store.blobs, FILE, NOW)
    assert state(database) is BlobState.STORING
    with database.write() as uow:
        assert uow.blobs.condemn(FILE.sha256, NOW, NOW)
        uow.commit()
    delete_condemned(database, store.blobs, FILE.sha256)


def test_blobs_are_listed_in_ascending_order_with_size(store):
    publish(store)
    entries = list(store.blobs.entries())
    assert [entry.sha256 for entry in entries] == sorted(file.sha256 for file in declared(FILES))
    assert {entry.size_bytes for entry in entries} == {file.size_bytes for file in declared(FILES)}
    store.blobs.delete("0" * 64)
