"""Bytes of uploads on their way in: one file each on the local disk, appended under a file lock.

Crash rule: a staged file is always a prefix of what its uploader sent. It is unlinked only after its
bytes are in the blob store and the database says so. Knows no database and no names.
"""

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path

from services.adapter_store.domain.version import VersionFile
from services.adapter_store.durable import fsync_dir, make_dirs, sha256_of
from services.common.errors import Code, Reason, ServiceError, invalid_field


class Staging:
    """Staged files at `root/<upload id>/<position of the file in its version>`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        make_dirs(root)

    def create(self, upload_id: str, positions: list[int]) -> None:
        """Makes the upload's empty files, durably; those that exist stay as they are."""
        directory = self._root / upload_id
        make_dirs(directory)
        for position in positions:
            (directory / str(position)).touch()
        fsync_dir(directory)

    def append(self, upload_id: str, position: int, file: VersionFile, offset: int, data: bytes) -> int:
        """Appends `data` if `offset` bytes are staged; returns the new length, which may not be durable yet.

        Raises WRONG_OFFSET, INVALID_FIELD if the file would grow past its declared size, QUOTA_EXCEEDED
        if the disk is full, FileNotFoundError if the file is no longer staged.
        """
        with self._locked(upload_id, position) as staged:
            num_bytes = os.fstat(staged.fileno()).st_size
            if offset != num_bytes:
                raise wrong_offset(offset, num_bytes)
            if num_bytes + len(data) > file.size_bytes:
                raise too_long(file)
            _write_all(staged, data)
            return num_bytes + len(data)

    def persisted_bytes(self, upload_id: str, position: int) -> int:
        """The file's length, made durable first. Raises FileNotFoundError."""
        with self._locked(upload_id, position) as file:
            os.fsync(file.fileno())
            return os.fstat(file.fileno()).st_size

    @contextlib.contextmanager
    def whole(self, upload_id: str, position: int, file: VersionFile) -> Iterator[Path]:
        """The path of a staged file that is whole and right, durable, and locked inside the `with`.

        Raises UPLOAD_INCOMPLETE if bytes are missing, CHECKSUM_MISMATCH if they are wrong (then the staged
        bytes are dropped), FileNotFoundError if the file is no longer staged.
        """
        with self._locked(upload_id, position) as staged:
            num_bytes = os.fstat(staged.fileno()).st_size
            if num_bytes != file.size_bytes:
                raise incomplete(file, num_bytes)
            os.fsync(staged.fileno())
            if sha256_of(staged) != file.sha256:
                staged.truncate(0)
                raise ServiceError(
                    Code.INVALID_ARGUMENT,
                    Reason.CHECKSUM_MISMATCH,
                    f"{file.path}: the bytes do not have the sha256 that StartUpload declared, and are "
                    "dropped: send the file again from offset 0, or start a new upload with the right sha256",
                    field=file.path,
                    metadata={"persisted_bytes": "0"},
                )
            yield self._path(upload_id, position)

    def discard_file(self, upload_id: str, position: int) -> None:
        """Removes one staged file if it is there."""
        self._path(upload_id, position).unlink(missing_ok=True)

    def discard(self, upload_id: str) -> None:
        """Removes all that is staged of an upload."""
        shutil.rmtree(self._root / upload_id, ignore_errors=True)

    def upload_ids(self) -> list[str]:
        """Uploads of which something is staged."""
        return sorted(path.name for path in self._root.iterdir())

    def positions(self, upload_id: str) -> dict[int, int]:
        """Length in bytes of each staged file of an upload, by position."""
        directory = self._root / upload_id
        return (
            {int(path.name): path.stat().st_size for path in directory.iterdir()}
            if directory.is_dir()
            else {}
        )

    def last_append(self, upload_id: str) -> datetime:
        """When bytes of the upload last arrived; long ago if nothing of it is staged."""
        directory = self._root / upload_id
        times_s = [path.stat().st_mtime for path in directory.iterdir()] if directory.is_dir() else []
        return datetime.fromtimestamp(max(times_s, default=0), UTC)

    def _path(self, upload_id: str, position: int) -> Path:
        return self._root / upload_id / str(position)

    @contextlib.contextmanager
    def _locked(self, upload_id: str, position: int) -> Iterator[FileIO]:
        path = self._path(upload_id, position)
        # Unbuffered: a buffer would be written when the file is closed, after the lock is gone.
        with open(os.open(path, os.O_RDWR | os.O_APPEND), "r+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not path.exists():
                raise FileNotFoundError(path)
            yield file


def wrong_offset(offset: int, persisted_bytes: int) -> ServiceError:
    """WRONG_OFFSET: says where to go on."""
    return ServiceError(
        Code.OUT_OF_RANGE,
        Reason.WRONG_OFFSET,
        f"write_offset is {offset}, but {persisted_bytes} bytes are persisted: go on from there",
        field="write_offset",
        metadata={"persisted_bytes": str(persisted_bytes)},
    )


def incomplete(file: VersionFile, persisted_bytes: int) -> ServiceError:
    """UPLOAD_INCOMPLETE: says which file lacks how much."""
    return ServiceError(
        Code.FAILED_PRECONDITION,
        Reason.UPLOAD_INCOMPLETE,
        f"{file.path}: {persisted_bytes} of {file.size_bytes} bytes are persisted: send the rest from there, "
        "with `finish` in the last message",
        field=file.path,
        metadata={"persisted_bytes": str(persisted_bytes), "path": file.path},
    )


def too_long(file: VersionFile) -> ServiceError:
    """INVALID_FIELD: more bytes than declared."""
    return invalid_field(
        "data",
        f"{file.path} would grow past the {file.size_bytes} bytes that StartUpload declared: nothing of this "
        "chunk was stored; send what was declared, or start a new upload",
    )


def _write_all(file: FileIO, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[file.write(rest) :]
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise ServiceError(
                Code.RESOURCE_EXHAUSTED,
                Reason.QUOTA_EXCEEDED,
                "the store's disk is full: free space on it, then resume the upload",
                retry_after_s=60.0,
            ) from error
