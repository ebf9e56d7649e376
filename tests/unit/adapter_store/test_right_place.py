"""A store starts only where bytes of its database's versions are."""

import contextlib

import pytest

from services.adapter_store.blobs import LocalBlobs
from services.adapter_store.metadata import Database
from services.adapter_store.right_place import check_right_place
from services.common.errors import Reason, unavailable
from tests.adapter_files import WEIGHTS
from tests.unit.adapter_store.conftest import NAME, publish


@pytest.fixture
def database(database_url):
    with contextlib.closing(Database(database_url)) as database:
        yield database


def test_another_place_than_that_of_the_bytes_is_refused(store, database, tmp_path):
    elsewhere = LocalBlobs(tmp_path / "elsewhere")
    check_right_place(database, elsewhere)  # nothing is known yet
    version = publish(store)
    check_right_place(database, store.blobs)
    with pytest.raises(OSError, match=r"--blob-url.* of 2 of their files none is here"):
        check_right_place(database, elsewhere)
    store.deletions.delete_version(NAME, version.version)
    check_right_place(database, elsewhere)


def test_a_damaged_file_does_not_keep_a_store_from_starting(store, database):
    files = {file.path: file.sha256 for file in publish(store).files}

    class Damaged:
        def has(self, sha256):
            return sha256 != files[WEIGHTS]

    check_right_place(database, Damaged())


def test_a_place_that_does_not_answer_is_said_so(store, database):
    publish(store)

    class Away:
        def has(self, sha256):
            raise unavailable(Reason.STORE_UNAVAILABLE, "object storage does not answer", 1.0)

    with pytest.raises(OSError, match="--blob-url: object storage does not answer"):
        check_right_place(database, Away())
