"""Bytes of a blob in chunks, of which the last comes only once the digest is right. Knows no place."""

import contextlib
import hashlib
from collections.abc import Generator, Iterator
from typing import BinaryIO

from services.adapter_store.blobs.blob_store import CHUNK_BYTES, BlobStore, corrupt


def read_range(
    blobs: BlobStore, sha256: str, size_bytes: int, offset: int, limit: int
) -> Generator[bytes, None, None]:
    """`limit` bytes from `offset`, in chunks of at most 1 MiB; the last comes only once the digest is right.

    Raises CORRUPT_BLOB if the stored bytes are not those of `sha256`.
    """
    with contextlib.closing(blobs.open(sha256)) as file:
        if offset == 0 and limit == size_bytes:
            yield from _read_whole(file, sha256, size_bytes)
            return
        if not blobs.is_intact(sha256, size_bytes):
            raise corrupt(sha256, "does not have the bytes that were uploaded")
        file.seek(offset)
        while limit:
            chunk = file.read(min(limit, CHUNK_BYTES))
            if not chunk:
                raise corrupt(sha256, "ended early")
            limit -= len(chunk)
            yield chunk


def _read_whole(file: BinaryIO, sha256: str, size_bytes: int) -> Iterator[bytes]:
    digest = hashlib.sha256()
    num_read = 0
    withheld = b""
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
        num_read += len(chunk)
        if num_read > size_bytes:
            break
        if withheld:
            yield withheld
        withheld = chunk
    if num_read != size_bytes or digest.hexdigest() != sha256:
        raise corrupt(sha256, "does not have the bytes that were uploaded")
    if withheld:
        yield withheld
