"""The port to where blobs live: one blob per sha256, whole and durable or not there at all.

Knows no names, versions or tenants, and no place.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from services.adapter_store.domain.blob import StoredBlob
from services.common.errors import Code, Reason, ServiceError

CHUNK_BYTES = 1 << 20


class BlobStore(Protocol):
    """Where blobs live. Digests are sha256 in lower-case hex; any method may be called from any thread."""

    def put(self, path: Path, sha256: str) -> None:
        """Takes a copy of the verified file at `path`; durable when it returns. Replaces what was there."""
        ...

    def is_intact(self, sha256: str, size_bytes: int) -> bool:
        """Whether the blob is there with this size and its bytes still have this digest."""
        ...

    def open(self, sha256: str) -> BinaryIO:
        """The blob for reading, seekable. Raises CORRUPT_BLOB if it is gone."""
        ...

    def digests(self) -> Iterator[str]:
        """The digest of every blob."""
        ...

    def entries(self) -> Iterator[StoredBlob]:
        """Every blob, by digest in ascending order; memory stays bounded however many there are."""
        ...

    def has(self, sha256: str) -> bool:
        """Whether the blob is there, whatever its bytes are."""
        ...

    def delete(self, sha256: str) -> None:
        """Removes the blob durably; no error if it is not there."""
        ...

    def clean(self) -> None:
        """Removes what an interrupted `put` left. Only while nothing else uses the store."""
        ...

    def leftovers(self) -> list[str]:
        """What an interrupted `put` left."""
        ...


def corrupt(sha256: str, what: str) -> ServiceError:
    """CORRUPT_BLOB: stored bytes are not what was uploaded."""
    return ServiceError(
        Code.DATA_LOSS,
        Reason.CORRUPT_BLOB,
        f"stored blob {sha256} {what}: upload the same files again as a new version, or restore the blob "
        "directory from a backup",
        metadata={"sha256": sha256},
    )
