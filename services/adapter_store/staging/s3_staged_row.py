"""What rows and object storage hold of one staged file: the only way in which either is changed.

Each change is a compare-and-swap: of two streams into one file, one is told WRONG_OFFSET.
"""

import contextlib
import ctypes
import hashlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime

from services.adapter_store.blobs.s3_blobs import S3Blobs
from services.adapter_store.blobs.s3_bucket import Bucket
from services.adapter_store.blobs.s3_errors import ObjectMissingError
from services.adapter_store.domain.staged_file import StagedFile, StagedPart
from services.adapter_store.domain.upload import UploadState
from services.adapter_store.domain.version import VersionFile
from services.adapter_store.metadata import Database
from services.adapter_store.staging.refusals import wrong_offset
from services.common.errors import ServiceError

log = logging.getLogger(__name__)

NOTHING = StagedFile()


@dataclass(frozen=True, slots=True)
class StageParts:
    """What every file's stage works with. `library` hashes, `threads` send parts, `now` is the clock."""

    database: Database
    bucket: Bucket
    blobs: S3Blobs
    library: ctypes.CDLL
    threads: ThreadPoolExecutor
    now: Callable[[], datetime]


class StagedRow:
    """One file's row as last read or written here. `tail_prefix` is that of its tails' keys."""

    def __init__(
        self, parts: StageParts, upload_id: str, position: int, file: VersionFile, tail_prefix: str
    ) -> None:
        self._database, self._bucket, self._now = parts.database, parts.bucket, parts.now
        self._place = (upload_id, position)
        self._file = file
        self._tail_prefix = tail_prefix
        self._key = parts.blobs.key(file.sha256)
        self._row: StagedFile | None = None

    @property
    def now(self) -> StagedFile:
        """How the file stands."""
        return self._row or NOTHING

    def read(self) -> None:
        """Reads the row. Raises FileNotFoundError if the file is stored or its upload over."""
        upload_id, position = self._place
        with self._database.read() as uow:
            upload = uow.uploads.get(upload_id)
            if upload is None or upload.state is not UploadState.OPEN or self._file.path in upload.stored:
                raise FileNotFoundError(f"{upload_id}/{position}")
            self._row = uow.staged_files.get(upload_id, position)

    def read_tail(self) -> bytes:
        """The tail's bytes; none if they are gone or changed, and then the row says so."""
        row, tail = self.now, b""
        if not row.tail_bytes:
            return tail
        with contextlib.suppress(ObjectMissingError):
            key = self._tail_prefix + row.tail_sha256
            tail = b"".join(self._bucket.chunks(key, 0, row.tail_bytes, row.tail_bytes))
        if hashlib.sha256(tail).hexdigest() == row.tail_sha256:
            return tail
        log.warning("upload %s: the tail of %s is damaged: it is sent again", self._place[0], self._file.path)
        self._change(replace(row, persisted_bytes=row.parts_bytes, tail_bytes=0, tail_sha256=""))
        return b""

    def put_tail(self, tail: bytes) -> None:
        """Keeps what comes after the parts."""
        sha256 = hashlib.sha256(tail).hexdigest()
        if sha256 != self.now.tail_sha256:
            self._bucket.put(self._tail_prefix + sha256, tail)
            persisted_bytes = self.now.parts_bytes + len(tail)
            tailed = replace(
                self.now, persisted_bytes=persisted_bytes, tail_bytes=len(tail), tail_sha256=sha256
            )
            self._change(tailed)

    def start_multipart(self) -> str:
        """The id of the multipart upload that parts go to."""
        if not self.now.multipart_id:
            multipart_id = self._bucket.start_multipart(self._key)
            try:
                self._change(replace(self.now, multipart_id=multipart_id))
            except (ServiceError, FileNotFoundError):
                self._bucket.abort_multipart(self._key, multipart_id)
                raise
        return self.now.multipart_id

    def add_part(self, part: StagedPart, hash_state: str) -> None:
        """Counts the part that comes after the others; what the tail was is in it."""
        row = self.now
        self._change(
            replace(
                row,
                persisted_bytes=row.parts_bytes + part.size_bytes,
                tail_bytes=0,
                tail_sha256="",
                hash_state=hash_state,
                parts=(*row.parts, part),
            )
        )

    def forget(self) -> None:
        """Nothing is staged any more, if nobody else changed it meanwhile."""
        row = self.now
        with self._database.write() as uow:
            if uow.staged_files.delete(*self._place, row.multipart_id):
                uow.commit()
        self._row = None
        self._remove_tail(row.tail_sha256)

    def drop(self) -> None:
        """Forgets the file, and drops its parts; those that cannot be dropped now are swept later."""
        multipart_id = self.now.multipart_id
        self.forget()
        if multipart_id:
            with contextlib.suppress(ServiceError):
                self._bucket.abort_multipart(self._key, multipart_id)

    def restart(self) -> ServiceError:
        """Object storage has lost the parts: WRONG_OFFSET, which sends the client back to the start."""
        log.warning("upload %s: object storage lost the parts of %s", self._place[0], self._file.path)
        persisted_bytes = self.now.persisted_bytes
        self.drop()
        return wrong_offset(persisted_bytes, 0)

    def complete(self, parts: tuple[StagedPart, ...]) -> None:
        """Makes the parts the blob's object. Raises MultipartLostError."""
        self._bucket.complete_multipart(self._key, self.now.multipart_id, parts)

    def _change(self, after: StagedFile) -> None:
        before = self._row
        with self._database.write() as uow:
            is_changed = uow.staged_files.replace(*self._place, before, after, self._now())
            if is_changed:
                uow.commit()
        if not is_changed:
            self.read()
            log.info("upload %s: another stream into %s was faster", self._place[0], self._file.path)
            raise wrong_offset(after.persisted_bytes, self.now.persisted_bytes)
        self._row = after
        if before is not None and before.tail_sha256 != after.tail_sha256:
            self._remove_tail(before.tail_sha256)

    def _remove_tail(self, sha256: str) -> None:
        if sha256:
            with contextlib.suppress(ServiceError):  # swept later
                self._bucket.remove(self._tail_prefix + sha256)
