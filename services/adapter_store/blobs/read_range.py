"""Bytes of a blob in chunks, of which the last comes only once the digest is right. Knows no place."""

import contextlib
from collections.abc import Generator, Iterable, Iterator

from services.adapter_store.blobs.blob_store import BlobStore, corrupt
from services.common.hash_thread import HashThread


def read_range(
    blobs: BlobStore, sha256: str, size_bytes: int, offset: int, limit: int
) -> Generator[bytes, None, None]:
    """`limit` bytes from `offset`, in chunks of at most 1 MiB; the last comes only once the digest is right.

    Raises CORRUPT_BLOB if the stored bytes are not those of `sha256`.
    """
    is_whole = offset == 0 and limit == size_bytes
    if not is_whole and not blobs.is_intact(sha256, size_bytes):
        raise corrupt(sha256, "does not have the bytes that were uploaded")
    # One byte more than there should be shows a blob that is too long.
    with contextlib.closing(blobs.chunks(sha256, offset, limit + is_whole)) as chunks:
        if is_whole:
            yield from _checked(chunks, sha256, size_bytes)
            return
        for chunk in chunks:
            limit -= len(chunk)
            yield chunk
    if limit:
        raise corrupt(sha256, "ended early")


def _checked(chunks: Iterable[bytes], sha256: str, size_bytes: int) -> Iterator[bytes]:
    num_read = 0
    withheld = b""
    with HashThread() as hashing:
        for chunk in chunks:
            hashing.add_bytes(chunk)
            num_read += len(chunk)
            if withheld:
                yield withheld
            withheld = chunk
        if num_read != size_bytes or hashing.hexdigest() != sha256:
            raise corrupt(sha256, "does not have the bytes that were uploaded")
    if withheld:
        yield withheld
