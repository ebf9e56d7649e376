"""Bytes of uploads on their way in: one file each on the local disk, appended under a file lock.

Crash rule: a staged file is always a prefix of what its uploader sent. It is unlinked only after its
bytes are in the blob store and the database says so. Knows no database and no names.
"""

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path

from services.adapter_store.blobs import LocalBlobs
from services.adapter_store.domain.upload import Upload
from services.adapter_store.domain.version import VersionFile
from services.adapter_store.durable import fsync_dir, make_dirs, sha256_of
from services.adapter_store.staging.refusals import incomplete, too_long, wrong_bytes, wrong_offset
from services.common.errors import Code, Reason, ServiceError


class LocalStaging:
    """Staged files at `root/<upload id>/<position of the file in its version>`, for blobs in `blobs`."""

    max_streams = 0

    def __init__(self, root: Path, blobs: LocalBlobs) -> None:
        self._root = root
        self._blobs = blobs
        make_dirs(root)

    def open(self, upload_id: str, position: int, file: VersionFile) -> "LocalFileStage":
        """Where the bytes of one file go."""
        return LocalFileStage(self, self._blobs, upload_id, position, file)

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
                raise wrong_bytes(file)
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

    def recover(self, open_uploads: Iterable[Upload]) -> None:
        """Drops what ended uploads left, and makes the missing files of open ones."""
        uploads = {upload.id: upload for upload in open_uploads}
        for upload_id in self.upload_ids():
            if upload_id not in uploads:
                self.discard(upload_id)
        for upload in uploads.values():
            missing = upload.missing_positions
            self.create(upload.id, missing)
            for position in self.positions(upload.id).keys() - missing:
                self.discard_file(upload.id, position)

    def problems(self, open_uploads: Iterable[Upload]) -> list[str]:
        """What is wrong, one line each."""
        uploads = {upload.id: upload for upload in open_uploads}
        problems = [
            f"upload {upload_id} is staged but not open: the next start drops it"
            for upload_id in self.upload_ids()
            if upload_id not in uploads
        ]
        for upload in uploads.values():
            staged, wanted = self.positions(upload.id), upload.missing_positions
            if sorted(staged) != wanted:
                problems.append(f"upload {upload.id} has files {sorted(staged)} staged, not {wanted}")
            problems += [
                f"upload {upload.id}: {upload.files[position].path} has more bytes staged than declared"
                for position, num_bytes in staged.items()
                if position in wanted and num_bytes > upload.files[position].size_bytes
            ]
        return problems

    def last_append(self, upload_id: str) -> datetime:
        """When bytes of the upload last arrived; long ago if nothing of it is staged."""
        directory = self._root / upload_id
        times_s = [0.0]
        for path in (directory, *directory.glob("*")):
            # A file that has been stored is gone, and says when by the directory's time.
            with contextlib.suppress(FileNotFoundError):
                times_s.append(path.stat().st_mtime)
        return datetime.fromtimestamp(max(times_s), UTC)

    def sweep(self, older_than: datetime) -> None:
        """Nothing: what an upload leaves goes with the next start."""

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


class LocalFileStage:
    """One staged file."""

    def __init__(
        self, staging: LocalStaging, blobs: LocalBlobs, upload_id: str, position: int, file: VersionFile
    ) -> None:
        self._staging = staging
        self._blobs = blobs
        self._place = (upload_id, position)
        self._file = file

    def append(self, offset: int, data: bytes) -> int:
        """Appends to the file."""
        return self._staging.append(*self._place, self._file, offset, data)

    def persisted_bytes(self) -> int:
        """The file's length, made durable."""
        return self._staging.persisted_bytes(*self._place)

    @contextlib.contextmanager
    def stored(self, before_put: Callable[[], None]) -> Iterator[None]:
        """Links the file, whole, right and locked, into the blob store."""
        with self._staging.whole(*self._place, self._file) as path:
            before_put()
            self._blobs.put(path, self._file.sha256)
            yield
            self._staging.discard_file(*self._place)

    def leave(self) -> None:
        """Nothing: whatever was appended is in the file."""


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
