"""Makes versions: starts, takes bytes, resumes, gives up, finishes. Knows no gRPC.

Order that keeps a version wholly there or not at all: staged bytes are made durable and verified, the
blob is made durable, the file's row says `stored`, staged bytes go; and only when every file is stored
and valid does one commit turn the version ACTIVE. A kill between any two leaves what can be resumed.
"""

import hashlib
import json
import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

import google_crc32c

from services.adapter_store.blobs import BlobStore
from services.adapter_store.catalog.lookup import find_adapter, find_base_model, find_version
from services.adapter_store.domain.fields import check_labels, check_text, quoted
from services.adapter_store.domain.names import AdapterName
from services.adapter_store.domain.upload import PersistedFile, Refusal, Upload, UploadState
from services.adapter_store.domain.version import (
    AdapterVersion,
    Lineage,
    VersionFile,
    VersionState,
    adapter_key,
)
from services.adapter_store.manifest import check_files, validate
from services.adapter_store.metadata import Database, UnitOfWork
from services.adapter_store.staging import Staging, incomplete, too_long, wrong_offset
from services.common.errors import Code, Reason, ServiceError, invalid_field, not_found

log = logging.getLogger(__name__)

MAX_DATA_BYTES = 2 << 20
MAX_OPEN_UPLOADS = 16


@dataclass(frozen=True, slots=True)
class FileTarget:
    """Where one stream's bytes go: a file of an upload."""

    upload: Upload
    position: int
    file: VersionFile


class Uploads:
    """Uploads, by id. `now` is the clock; `max_upload_bytes` bounds the files of one upload together."""

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        staging: Staging,
        now: Callable[[], datetime],
        max_upload_bytes: int,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._staging = staging
        self._now = now
        self._max_upload_bytes = max_upload_bytes

    def recover(self) -> None:
        """Once at start: drops what ended uploads left staged, and makes open ones able to go on."""
        with self._database.read() as uow:
            uploads = [uow.uploads.get(upload_id) for upload_id in uow.uploads.open_ids()]
        open_uploads = {upload.id: upload for upload in uploads if upload is not None}
        for upload_id in self._staging.upload_ids():
            if upload_id not in open_uploads:
                self._staging.discard(upload_id)
        for upload in open_uploads.values():
            self._staging.create(upload.id, _missing_positions(upload))
            for position in self._staging.positions(upload.id):
                if position not in _missing_positions(upload):
                    self._staging.discard_file(upload.id, position)
        self._blobs.clean()
        if open_uploads:
            log.info("%d uploads can be resumed", len(open_uploads))

    def start(
        self,
        name: AdapterName,
        files: tuple[VersionFile, ...],
        labels: Mapping[str, str],
        lineage: Lineage,
        request_id: str,
    ) -> tuple[Upload, list[PersistedFile]]:
        """Reserves the adapter's next version number and says what need not be sent.

        The same `request_id` gives the same upload. Raises INVALID_FIELD, INVALID_ADAPTER, UNSUPPORTED_ADAPTER,
        ADAPTER_NOT_FOUND, QUOTA_EXCEEDED.
        """
        check_files(files, self._max_upload_bytes)
        checked_labels = check_labels(labels)
        _check_lineage(lineage)
        check_text(request_id, "request_id", max_chars=128)
        fingerprint = _fingerprint(files, checked_labels, lineage)
        with self._database.read() as uow:
            find_adapter(uow, name)
            stored = frozenset(file.path for file in files if uow.uploads.tenant_has(name.tenant, file))
        # Reading blobs back takes time: outside the transaction.
        stored = frozenset(
            f.path for f in files if f.path in stored and self._blobs.is_intact(f.sha256, f.size_bytes)
        )
        upload_id = uuid.uuid4().hex
        self._staging.create(upload_id, [i for i, file in enumerate(files) if file.path not in stored])
        try:
            with self._database.write() as uow:
                started = _known_request(uow, name, request_id, fingerprint)
                if started is None:
                    started = self._insert(
                        uow, upload_id, name, files, stored, checked_labels, lineage, request_id, fingerprint
                    )
                    uow.commit()
        except BaseException:
            self._staging.discard(upload_id)
            raise
        if started.id != upload_id:
            self._staging.discard(upload_id)
        return started, self._persisted(started)

    def get(self, upload_id: str) -> tuple[Upload, list[PersistedFile]]:
        """An open upload and how far it has come; also one just finished. Raises UPLOAD_NOT_FOUND."""
        upload = self._find(upload_id, UploadState.OPEN, UploadState.FINISHED)
        return upload, self._persisted(upload)

    def open_file(self, upload_id: str, path: str) -> FileTarget:
        """Where bytes of `path` go. Raises UPLOAD_NOT_FOUND, FILE_NOT_FOUND."""
        upload = self._find(upload_id, UploadState.OPEN)
        for position, file in enumerate(upload.files):
            if file.path == path:
                return FileTarget(upload, position, file)
        declared = ", ".join(file.path for file in upload.files)
        raise ServiceError(
            Code.NOT_FOUND,
            Reason.FILE_NOT_FOUND,
            f"{quoted(path)} was not declared in StartUpload: the upload has {declared}",
            field="path",
        )

    def append(self, target: FileTarget, offset: int, data: bytes, crc32c: int | None) -> int:
        """Appends one chunk; returns the bytes taken so far, durable once `persisted` or `finish_file` says so.

        Raises CHECKSUM_MISMATCH, WRONG_OFFSET, INVALID_FIELD, UPLOAD_NOT_FOUND; then nothing of the chunk is kept.
        """
        if offset < 0:
            raise invalid_field("write_offset", f"is {offset}: must not be negative")
        if len(data) > MAX_DATA_BYTES:
            raise invalid_field("data", f"has {len(data)} bytes: send at most {MAX_DATA_BYTES} in a message")
        if crc32c is not None and google_crc32c.value(data) != crc32c:
            raise ServiceError(
                Code.INVALID_ARGUMENT,
                Reason.CHECKSUM_MISMATCH,
                f"{target.file.path}: the chunk at {offset} does not have the crc32c sent with it and was not "
                "stored: send it again",
                field="crc32c",
                metadata={"persisted_bytes": str(self.persisted(target))},
            )
        try:
            return self._staging.append(target.upload.id, target.position, target.file, offset, data)
        except FileNotFoundError:
            return self._append_to_stored(target, offset, data)

    def persisted(self, target: FileTarget) -> int:
        """The file's durable bytes. Raises UPLOAD_NOT_FOUND."""
        try:
            return self._staging.persisted_bytes(target.upload.id, target.position)
        except FileNotFoundError:
            self._must_be_stored(target)
            return target.file.size_bytes

    def finish_file(self, target: FileTarget) -> int:
        """Verifies the whole file and moves it into the blob store; returns its size. May be called again.

        Raises UPLOAD_INCOMPLETE, CHECKSUM_MISMATCH (the staged bytes are dropped), UPLOAD_NOT_FOUND.
        """
        upload, file = target.upload, target.file
        try:
            with self._staging.whole(upload.id, target.position, file) as path:
                self._blobs.put(path, file.sha256)
                with self._database.write() as uow:
                    current = uow.uploads.get(upload.id)
                    if current is None or current.state is not UploadState.OPEN:
                        raise _gone(upload.id, current)
                    uow.versions.set_stored(upload.adapter_id, upload.version, file.path)
                    uow.uploads.add_tenant_blob(upload.adapter.tenant, file)
                    uow.commit()
                self._staging.discard_file(upload.id, target.position)
        except FileNotFoundError:
            self._must_be_stored(target)
        return file.size_bytes

    def abort(self, upload_id: str) -> None:
        """Gives the upload up: its version is FAILED, what is staged goes. No error if it is given up already.

        Raises UPLOAD_NOT_FOUND, also for one that is finished.
        """
        with self._database.write() as uow:
            upload = uow.uploads.get(upload_id)
            if upload is None or upload.state is UploadState.FINISHED:
                raise _gone(upload_id, upload)
            if uow.uploads.close(upload_id, UploadState.ABORTED):
                _fail(uow, upload, "the upload was given up by its client")
                uow.commit()
        self._staging.discard(upload_id)

    def finish(self, upload_id: str) -> AdapterVersion:
        """Validates the stored files and makes the version ACTIVE. Again gives the same version, or refusal.

        Raises UPLOAD_INCOMPLETE, UPLOAD_NOT_FOUND, CORRUPT_BLOB, and whatever `validate` refuses; that also makes
        the version FAILED, with the same words.
        """
        upload = self._find(upload_id, UploadState.OPEN, UploadState.FINISHED, UploadState.REFUSED)
        if upload.refusal is not None:
            raise upload.refusal.error()
        if upload.state is UploadState.OPEN:
            self._check_complete(upload)
            self._settle(upload)
        with self._database.read() as uow:
            settled = uow.uploads.get(upload_id)
            if settled is None or settled.state is UploadState.ABORTED:
                raise _gone(upload_id, settled)
            if settled.refusal is not None:
                raise settled.refusal.error()
            return find_version(uow, find_adapter(uow, upload.adapter), upload.version)

    def _settle(self, upload: Upload) -> None:
        with self._database.read() as uow:
            base_model = find_base_model(uow, upload.base_model)
        try:
            weights = validate(upload.files, self._blobs.open, base_model)
        except ServiceError as error:
            if error.reason is Reason.CORRUPT_BLOB:
                raise
            refusal = Refusal(error.code.value, error.reason.value, error.message, error.field)
            with self._database.write() as uow:
                if uow.uploads.close(upload.id, UploadState.REFUSED, refusal):
                    _fail(uow, upload, error.message)
                    uow.commit()
        else:
            with self._database.write() as uow:
                if uow.uploads.close(upload.id, UploadState.FINISHED):
                    moved = uow.versions.move_state(
                        upload.adapter_id,
                        upload.version,
                        VersionState.CREATING,
                        VersionState.ACTIVE,
                        weights=weights,
                    )
                    assert moved, "an open upload's version is CREATING"
                    uow.commit()
        self._staging.discard(upload.id)

    def _check_complete(self, upload: Upload) -> None:
        for persisted, file in zip(self._persisted(upload), upload.files, strict=True):
            if file.path not in upload.stored:
                raise incomplete(file, persisted.persisted_bytes)
            if not self._blobs.is_intact(file.sha256, file.size_bytes):
                raise ServiceError(
                    Code.DATA_LOSS,
                    Reason.CORRUPT_BLOB,
                    f"{file.path} was stored, but its bytes have changed on the store's disk: start a new upload",
                    field=file.path,
                )

    def _insert(
        self,
        uow: UnitOfWork,
        upload_id: str,
        name: AdapterName,
        files: tuple[VersionFile, ...],
        stored: frozenset[str],
        labels: dict[str, str],
        lineage: Lineage,
        request_id: str,
        fingerprint: str,
    ) -> Upload:
        adapter = find_adapter(uow, name)
        open_ids = uow.uploads.open_ids(adapter.id)
        if len(open_ids) >= MAX_OPEN_UPLOADS:
            raise ServiceError(
                Code.RESOURCE_EXHAUSTED,
                Reason.QUOTA_EXCEEDED,
                f"{name} has {len(open_ids)} open uploads: finish or abort one, the oldest is {open_ids[0]}",
                retry_after_s=60.0,
                metadata={"oldest_upload_id": open_ids[0]},
            )
        now = self._now()
        version = uow.adapters.next_version(adapter.id)
        key = adapter_key(files)
        uow.versions.insert(adapter.id, version, adapter.base_model, key, files, stored, labels, lineage, now)
        uow.uploads.insert(upload_id, adapter.id, version, request_id or None, fingerprint, now)
        upload = uow.uploads.get(upload_id)
        assert upload is not None, "the row was just inserted"
        return upload

    def _persisted(self, upload: Upload) -> list[PersistedFile]:
        targets = [FileTarget(upload, position, file) for position, file in enumerate(upload.files)]
        return [
            PersistedFile(
                target.file.path,
                target.file.size_bytes if target.file.path in upload.stored else self.persisted(target),
            )
            for target in targets
        ]

    def _append_to_stored(self, target: FileTarget, offset: int, data: bytes) -> int:
        self._must_be_stored(target)
        if offset != target.file.size_bytes:
            raise wrong_offset(offset, target.file.size_bytes)
        if data:
            raise too_long(target.file)
        return target.file.size_bytes

    def _must_be_stored(self, target: FileTarget) -> None:
        upload = self._find(target.upload.id, UploadState.OPEN, UploadState.FINISHED, UploadState.REFUSED)
        assert target.file.path in upload.stored, "a file of an open upload is staged until it is stored"

    def _find(self, upload_id: str, *states: UploadState) -> Upload:
        with self._database.read() as uow:
            upload = uow.uploads.get(upload_id)
        if upload is None or upload.state not in states:
            raise _gone(upload_id, upload)
        return upload


def _known_request(uow: UnitOfWork, name: AdapterName, request_id: str, fingerprint: str) -> Upload | None:
    if not request_id:
        return None
    known = uow.uploads.by_request(find_adapter(uow, name).id, request_id)
    if known is not None and known.fingerprint != fingerprint:
        raise invalid_field(
            "request_id",
            f"{quoted(request_id)} started another upload to {name} with other files, labels or lineage: "
            "use a new request_id",
        )
    return known


def _fail(uow: UnitOfWork, upload: Upload, message: str) -> None:
    moved = uow.versions.move_state(
        upload.adapter_id, upload.version, VersionState.CREATING, VersionState.FAILED, status_message=message
    )
    assert moved, "an open upload's version is CREATING"


def _missing_positions(upload: Upload) -> list[int]:
    return [i for i, file in enumerate(upload.files) if file.path not in upload.stored]


def _gone(upload_id: str, upload: Upload | None) -> ServiceError:
    what = "is unknown: start one with StartUpload"
    if upload is not None:
        what = {
            UploadState.OPEN: "is open: finish it first",
            UploadState.FINISHED: "is finished: its version is there",
            UploadState.REFUSED: "was refused: its version's status_message says why; start a new upload",
            UploadState.ABORTED: "was given up: start a new upload",
        }[upload.state]
    return not_found(Reason.UPLOAD_NOT_FOUND, f"upload {quoted(upload_id)} {what}")


def _check_lineage(lineage: Lineage) -> None:
    for field, text in asdict(lineage).items():
        check_text(text, f"lineage.{field}", max_chars=4096 if field == "notes" else 512)


def _fingerprint(files: tuple[VersionFile, ...], labels: dict[str, str], lineage: Lineage) -> str:
    canonical = json.dumps([adapter_key(files), labels, asdict(lineage)], sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()
