"""Opens the places of a store's bytes, as its settings say: blobs, and what is staged for them."""

import contextlib
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from services.adapter_store.blob_settings import BlobSettings
from services.adapter_store.blobs import BlobStore, LocalBlobs
from services.adapter_store.blobs.s3_blobs import S3Blobs
from services.adapter_store.blobs.s3_bucket import Bucket
from services.adapter_store.hash_state import load_library
from services.adapter_store.metadata import Database
from services.adapter_store.staging import LocalStaging, Staging
from services.adapter_store.staging.s3_staging import S3Staging, S3StagingSettings


@contextlib.contextmanager
def open_byte_places(
    settings: BlobSettings, data_dir: Path, database: Database, now: Callable[[], datetime]
) -> Iterator[tuple[BlobStore, Staging]]:
    """Blobs and staging. Raises OSError saying what is wrong with a bucket or its credentials."""
    if not settings.is_in_s3:
        local = LocalBlobs(settings.blob_dir(data_dir))
        yield local, LocalStaging(data_dir / "uploads", local)
        return
    place = settings.s3_place
    try:
        bucket = Bucket(place, settings.s3_credentials())
    except ValueError as error:
        raise OSError(f"--blob-url: {error}") from error
    bucket.check()
    if settings.s3_public_endpoint is not None:
        bucket.sign_for(settings.s3_public_endpoint)
    blobs = S3Blobs(bucket, place.prefix, data_dir / "spool", settings.presign_expiry_s, now)
    staging_settings = S3StagingSettings(place.prefix, settings.upload_memory_bytes)
    staging = S3Staging(database, bucket, blobs, load_library(), staging_settings, now)
    with contextlib.closing(staging):
        yield blobs, staging
