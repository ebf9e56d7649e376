"""Content-addressed bytes: one blob per sha256, whole and durable or not there at all.

Knows no names, versions or tenants.
"""

import contextlib
import hashlib
import os
import shutil
import threading
import uuid
from collections.abc import Generator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Protocol

from services.adapter_store.domain.blob import StoredBlob
from services.adapter_store.durable import fsync_dir, make_dirs, sha256_of
from services.common.errors import Code, Reason, ServiceError

CHUNK_BYTES = 1 << 20

_MAX_REMEMBERED = 65536


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


class LocalBlobs:
    """Blobs in a local directory: `root/ab/cd/<sha256>`, new ones by way of `root/incoming`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._incoming = root / "incoming"
        make_dirs(self._incoming)
        # (digest, mtime_ns, size) of blobs whose bytes this process has checked.
        self._checked: set[tuple[str, int, int]] = set()
        self._checked_lock = threading.Lock()

    def put(self, path: Path, sha256: str) -> None:
        """Links `path` into place (copies across file systems), then makes the name durable."""
        final = self._path(sha256)
        make_dirs(final.parent)
        incoming = self._incoming / uuid.uuid4().hex
        try:
            try:
                os.link(path, incoming)
            except OSError:  # another file system, or one without hard links
                _copy(path, incoming)
            os.replace(incoming, final)
        finally:
            incoming.unlink(missing_ok=True)
        fsync_dir(final.parent)
        self._remember(sha256, final.stat())

    def is_intact(self, sha256: str, size_bytes: int) -> bool:
        """Reads the whole blob the first time in this process; then only if its time or size changed."""
        try:
            with self.open(sha256) as file:
                found = os.fstat(file.fileno())
                if found.st_size != size_bytes:
                    return False
                if (sha256, found.st_mtime_ns, found.st_size) in self._checked:
                    return True
                if sha256_of(file) != sha256:
                    return False
        except ServiceError:
            return False
        self._remember(sha256, found)
        return True

    def open(self, sha256: str) -> BinaryIO:
        """The blob's file, opened for reading."""
        try:
            return self._path(sha256).open("rb")
        except FileNotFoundError as error:
            raise corrupt(sha256, "is missing") from error

    def digests(self) -> Iterator[str]:
        """The digest of every blob, in no order."""
        for path in self._root.glob("??/??/*"):
            yield path.name

    def entries(self) -> Iterator[StoredBlob]:
        """Every blob, by digest in ascending order."""
        for outer in _sorted_dirs(self._root):
            for inner in _sorted_dirs(outer):
                for name in sorted(os.listdir(inner)):
                    # Others delete meanwhile.
                    with contextlib.suppress(FileNotFoundError):
                        found = (inner / name).stat()
                        yield StoredBlob(name, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))

    def has(self, sha256: str) -> bool:
        """Whether the blob's file is there."""
        return self._path(sha256).is_file()

    def delete(self, sha256: str) -> None:
        """Unlinks the blob's file, and makes that durable."""
        path = self._path(sha256)
        try:
            path.unlink()
        except FileNotFoundError:
            return
        fsync_dir(path.parent)

    def clean(self) -> None:
        """Empties `incoming`."""
        for path in self._incoming.iterdir():
            path.unlink()

    def leftovers(self) -> list[str]:
        """Paths in `incoming`."""
        return sorted(str(path) for path in self._incoming.iterdir())

    def _path(self, sha256: str) -> Path:
        return self._root / sha256[:2] / sha256[2:4] / sha256

    def _remember(self, sha256: str, found: os.stat_result) -> None:
        with self._checked_lock:
            if len(self._checked) >= _MAX_REMEMBERED:
                self._checked.clear()
            self._checked.add((sha256, found.st_mtime_ns, found.st_size))


def corrupt(sha256: str, what: str) -> ServiceError:
    """CORRUPT_BLOB: stored bytes are not what was uploaded."""
    return ServiceError(
        Code.DATA_LOSS,
        Reason.CORRUPT_BLOB,
        f"stored blob {sha256} {what}: upload the same files again as a new version, or restore the blob "
        "directory from a backup",
        metadata={"sha256": sha256},
    )


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


def _sorted_dirs(root: Path) -> list[Path]:
    """The directories of two hex digits in `root`."""
    return sorted(path for path in root.glob("??") if path.is_dir())


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as reader, target.open("xb") as writer:
        shutil.copyfileobj(reader, writer, CHUNK_BYTES)
        writer.flush()
        os.fsync(writer.fileno())
