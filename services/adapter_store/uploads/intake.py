"""Takes the bytes of an upload's files: chunk by chunk into staging, whole and verified into blobs."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import google_crc32c

from services.adapter_store.blobs import BlobStore
from services.adapter_store.domain.actor import STORE, Actor
from services.adapter_store.domain.fields import quoted
from services.adapter_store.domain.upload import PersistedFile, Upload, UploadState
from services.adapter_store.domain.version import VersionFile
from services.adapter_store.garbage.deletion import claim
from services.adapter_store.metadata import Database
from services.adapter_store.staging import FileStage, Staging, too_long, wrong_offset
from services.adapter_store.upload_meter import UploadMeter
from services.adapter_store.uploads.lookup import find_upload
from services.common.errors import Code, Reason, ServiceError, invalid_field

MAX_DATA_BYTES = 2 << 20


@dataclass(frozen=True, slots=True)
class FileTarget:
    """Where one stream's bytes go: a file of an upload."""

    upload: Upload
    position: int
    file: VersionFile
    stage: FileStage


class Intake:
    """The way in for bytes. Every call may be made from any thread, and again after a crash."""

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        staging: Staging,
        now: Callable[[], datetime],
        meter: UploadMeter,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._staging = staging
        self._now = now
        self._meter = meter

    @property
    def max_streams(self) -> int:
        """How many files may take bytes at once, so that memory stays bounded; 0: any number."""
        return self._staging.max_streams

    def open_file(self, upload_id: str, path: str) -> FileTarget:
        """Where bytes of `path` go. Raises UPLOAD_NOT_FOUND, FILE_NOT_FOUND.

        A finished upload opens too, so that a client whose answer was lost may repeat its last message.
        """
        with self._database.read() as uow:
            upload = find_upload(uow, upload_id, UploadState.OPEN, UploadState.FINISHED)
        for position, file in enumerate(upload.files):
            if file.path == path:
                return self._target(upload, position)
        declared = ", ".join(file.path for file in upload.files)
        raise ServiceError(
            Code.NOT_FOUND,
            Reason.FILE_NOT_FOUND,
            f"{quoted(path)} was not declared in StartUpload: the upload has {declared}",
            field="path",
        )

    def append(self, target: FileTarget, offset: int, data: bytes, crc32c: int | None) -> int:
        """Appends one chunk; returns the bytes taken, durable once `persisted` or `finish_file` says so.

        Raises CHECKSUM_MISMATCH, WRONG_OFFSET, INVALID_FIELD, UPLOAD_NOT_FOUND; then nothing of the
        chunk is kept.
        """
        if offset < 0:
            raise invalid_field("write_offset", f"is {offset}: must not be negative")
        if len(data) > MAX_DATA_BYTES:
            raise invalid_field("data", f"has {len(data)} bytes: send at most {MAX_DATA_BYTES} in a message")
        if crc32c is not None and google_crc32c.value(data) != crc32c:
            raise self._damaged_chunk(target, offset)
        try:
            taken = target.stage.append(offset, data)
        except FileNotFoundError:
            return self._append_to_stored(target, offset, data)
        self._meter.received(len(data))
        return taken

    def persisted(self, target: FileTarget) -> int:
        """The file's durable bytes. Raises UPLOAD_NOT_FOUND."""
        if target.file.path in target.upload.stored:
            return target.file.size_bytes
        try:
            return target.stage.persisted_bytes()
        except FileNotFoundError:
            self._must_be_stored(target)
            return target.file.size_bytes

    def persisted_files(self, upload: Upload) -> list[PersistedFile]:
        """The durable bytes of every file. Raises UPLOAD_NOT_FOUND if the upload was given up."""
        return [
            PersistedFile(file.path, self.persisted(self._target(upload, position)))
            for position, file in enumerate(upload.files)
        ]

    def finish_file(self, target: FileTarget, actor: Actor = STORE) -> int:
        """Verifies the whole file and puts it into the blob store; returns its size. May be called again.

        Raises UPLOAD_INCOMPLETE, CHECKSUM_MISMATCH (the staged bytes are dropped), UPLOAD_NOT_FOUND.
        """
        upload, file = target.upload, target.file
        try:
            with (
                target.stage.stored(lambda: claim(self._database, self._blobs, file, self._now())),
                self._database.write(actor) as uow,
            ):
                find_upload(uow, upload.id, UploadState.OPEN)
                uow.versions.set_stored(upload.adapter_id, upload.version, file.path)
                uow.blobs.set_stored(file.sha256)
                uow.uploads.add_tenant_blob(upload.adapter.tenant, file)
                name = upload.adapter.version(upload.version)
                uow.audit.add(upload.adapter.tenant, name, f"{file.path} stored")
                uow.commit()
        except FileNotFoundError:
            self._must_be_stored(target)
        return file.size_bytes

    def leave(self, target: FileTarget) -> None:
        """The stream into `target` is over, however it ended: keeps what it took as far as possible."""
        target.stage.leave()

    def _target(self, upload: Upload, position: int) -> FileTarget:
        file = upload.files[position]
        return FileTarget(upload, position, file, self._staging.open(upload.id, position, file))

    def _damaged_chunk(self, target: FileTarget, offset: int) -> ServiceError:
        return ServiceError(
            Code.INVALID_ARGUMENT,
            Reason.CHECKSUM_MISMATCH,
            f"{target.file.path}: the chunk at {offset} does not have the crc32c that came with it, and was "
            "not stored: send it again",
            field="crc32c",
            metadata={"persisted_bytes": str(self.persisted(target))},
        )

    def _append_to_stored(self, target: FileTarget, offset: int, data: bytes) -> int:
        self._must_be_stored(target)
        if offset != target.file.size_bytes:
            raise wrong_offset(offset, target.file.size_bytes)
        if data:
            raise too_long(target.file)
        return target.file.size_bytes

    def _must_be_stored(self, target: FileTarget) -> None:
        with self._database.read() as uow:
            upload = find_upload(
                uow, target.upload.id, UploadState.OPEN, UploadState.FINISHED, UploadState.REFUSED
            )
        assert target.file.path in upload.stored, "a file of an upload is staged until it is stored"
