"""Stores whose bytes lie in object storage: replicas of one database and one bucket, in this process."""

import contextlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.adapter_store.blobs.s3_blobs import S3Blobs
from services.adapter_store.blobs.s3_bucket import Bucket
from services.adapter_store.blobs.s3_place import parse_s3_url
from services.adapter_store.hash_state import load_library
from services.adapter_store.metadata import Database
from services.adapter_store.staging.s3_staging import S3Staging, S3StagingSettings
from services.adapter_store.store import Store
from services.common.settings import S3Credentials
from tests.s3_server import ACCESS_KEY, SECRET_KEY

# Small, so that small files have several.
PART_BYTES = 64 << 10

Replica = tuple[Store, S3Blobs, S3Staging]


def open_bucket(url: str) -> tuple[Bucket, str]:
    """The bucket of a --blob-url, and its prefix."""
    place = parse_s3_url(url)
    return Bucket(place, S3Credentials(ACCESS_KEY, SECRET_KEY)), place.prefix


@contextlib.contextmanager
def replica(url: str, database_url: str, directory: Path, part_bytes: int = PART_BYTES) -> Iterator[Replica]:
    """One store process's parts."""
    bucket, prefix = open_bucket(url)

    def now() -> datetime:
        return datetime.now(UTC)

    with contextlib.closing(Database(database_url)) as database:
        blobs = S3Blobs(bucket, prefix, directory / "spool", 60, now)
        settings = S3StagingSettings(prefix, 64 << 20, part_bytes)
        staging = S3Staging(database, bucket, blobs, load_library(), settings, now)
        with contextlib.closing(staging):
            yield Store(database, blobs, staging, max_upload_bytes=64 << 20, now=now), blobs, staging


def far_future() -> datetime:
    """Later than anything that a test makes."""
    return datetime.now(UTC) + timedelta(days=1)


@pytest.fixture
def open_replica(s3_url: str, database_url: str, tmp_path: Path) -> Iterator[Callable[[], Replica]]:
    """Opens another replica of this test's store each time."""
    with contextlib.ExitStack() as opened:
        number = iter(range(100))

        def open_one() -> Replica:
            return opened.enter_context(replica(s3_url, database_url, tmp_path / str(next(number))))

        yield open_one
