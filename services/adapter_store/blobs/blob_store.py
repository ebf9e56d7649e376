"""The port to where blobs live: one blob per sha256, whole and durable or not there at all.

Knows no names, versions or tenants, and no place.
"""

from collections.abc import Generator, Iterator
from typing import BinaryIO, Protocol

from services.adapter_store.domain.blob import ReadUrl, StoredBlob
from services.common.errors import Code, Reason, ServiceError

CHUNK_BYTES = 1 << 20


class BlobStore(Protocol):
    """Where blobs live. Digests are sha256 in lower-case hex; any method may be called from any thread."""

    def is_intact(self, sha256: str, size_bytes: int) -> bool:
        """Whether the blob is there with this size and its bytes still have this digest."""
        ...

    def open(self, sha256: str) -> BinaryIO:
        """The blob for reading, seekable. Raises CORRUPT_BLOB if it is gone.

        Its bytes are right if `is_intact` has said so, or the place checks them itself.
        """
        ...

    def chunks(self, sha256: str, offset: int, length: int) -> Generator[bytes, None, None]:
        """`length` bytes from `offset`, unchecked, in chunks of at most 1 MiB; fewer if the blob ends.

        Raises CORRUPT_BLOB if it is gone.
        """
        ...

    def read_url(self, sha256: str) -> ReadUrl | None:
        """Where readers can get the bytes without this store; None if nowhere. Asks nobody."""
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
        f"stored blob {sha256} {what}: upload the same files again as a new version, or restore the blobs "
        "from a backup",
        metadata={"sha256": sha256},
    )
