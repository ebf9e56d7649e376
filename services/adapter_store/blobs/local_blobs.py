"""Blobs as files of a local directory. Must not know object storage."""

import contextlib
import os
import shutil
import threading
import uuid
from collections.abc import Generator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from services.adapter_store.blobs.blob_store import CHUNK_BYTES, corrupt
from services.adapter_store.domain.blob import ReadUrl, StoredBlob
from services.adapter_store.durable import fsync_dir, make_dirs, sha256_of
from services.common.errors import ServiceError

_MAX_REMEMBERED = 65536


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
        """Links the verified file at `path` into place (copies across file systems); durable at its return.

        Replaces what was there.
        """
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

    def chunks(self, sha256: str, offset: int, length: int) -> Generator[bytes, None, None]:
        """Bytes of the blob's file."""
        with self.open(sha256) as file:
            file.seek(offset)
            while length and (chunk := file.read(min(length, CHUNK_BYTES))):
                length -= len(chunk)
                yield chunk

    def read_url(self, sha256: str) -> ReadUrl | None:
        """None: nobody else reads this directory."""
        return None

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


def _sorted_dirs(root: Path) -> list[Path]:
    """The directories of two hex digits in `root`."""
    return sorted(path for path in root.glob("??") if path.is_dir())


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as reader, target.open("xb") as writer:
        shutil.copyfileobj(reader, writer, CHUNK_BYTES)
        writer.flush()
        os.fsync(writer.fileno())
