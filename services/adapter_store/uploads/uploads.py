"""The life of an upload, from the version number it reserves to the version it becomes."""

import logging
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime

from services.adapter_store.blobs import BlobStore, corrupt
from services.adapter_store.catalog.lookup import (
    find_adapter,
    find_base_model,
    find_version,
    lock_adapter,
)
from services.adapter_store.catalog.quotas import check_version_quotas
from services.adapter_store.domain.actor import STORE, Actor
from services.adapter_store.domain.adapter import Adapter
from services.adapter_store.domain.fields import quoted
from services.adapter_store.domain.names import AdapterName
from services.adapter_store.domain.upload import PersistedFile, Refusal, Upload, UploadState
from services.adapter_store.domain.version import (
    AdapterVersion,
    Lineage,
    VersionFile,
    VersionState,
    adapter_key,
    not_active,
)
from services.adapter_store.manifest import check_files, validate
from services.adapter_store.metadata import Database, UnitOfWork
from services.adapter_store.staging import Staging, incomplete
from services.adapter_store.upload_meter import UploadMeter
from services.adapter_store.uploads.ending import give_up, settle_version
from services.adapter_store.uploads.intake import Intake
from services.adapter_store.uploads.lookup import find_upload
from services.adapter_store.uploads.request import UploadRequest
from services.adapter_store.uploads.signed import check_signed
from services.common.errors import Code, Reason, ServiceError, invalid_field
from services.common.manifest_signature import Signature

log = logging.getLogger(__name__)

MAX_OPEN_UPLOADS = 16


class Uploads:
    """Uploads, by id. `now` is the clock; `max_upload_bytes` bounds the files of one upload together."""

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        staging: Staging,
        intake: Intake,
        now: Callable[[], datetime],
        max_upload_bytes: int,
        meter: UploadMeter,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._staging = staging
        self._intake = intake
        self._now = now
        self._max_upload_bytes = max_upload_bytes
        self._meter = meter
        self._timer = timer

    def recover(self) -> None:
        """Once at start: drops what ended uploads left staged, and makes open ones able to go on."""
        with self._database.read() as uow:
            open_uploads = [find_upload(uow, id, UploadState.OPEN) for id in uow.uploads.open_ids()]
        self._staging.recover(open_uploads)
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
        actor: Actor = STORE,
        signature: Signature | None = None,
    ) -> tuple[Upload, list[PersistedFile]]:
        """Reserves the adapter's next version number and says what need not be sent.

        The same `request_id` gives the same upload. Raises INVALID_FIELD, INVALID_ADAPTER,
        UNSUPPORTED_ADAPTER, ADAPTER_NOT_FOUND, QUOTA_EXCEEDED.
        """
        check_files(files, self._max_upload_bytes)
        request = UploadRequest.checked(name, files, labels, lineage, request_id, signature)
        upload = None
        while upload is None:
            upload = self._start(request, self._stored_by_tenant(request), actor)
        return upload, self._intake.persisted_files(upload)

    def _start(self, request: UploadRequest, stored: frozenset[str], actor: Actor) -> Upload | None:
        """None if what was `stored` is being deleted meanwhile: look again."""
        upload_id = uuid.uuid4().hex
        # Before the rows, so that a committed upload always has its files; `recover` drops orphans.
        self._staging.create(upload_id, _missing_positions(request.files, stored))
        upload = None
        try:
            with self._database.write(actor) as uow:
                counted_on = {file.sha256 for file in request.files if file.path in stored}
                if uow.blobs.lock_stored(counted_on) != counted_on:
                    return None
                # The tenant before the adapter: whoever locks both does it in this order.
                uow.tenants.lock(request.name.tenant)
                adapter = lock_adapter(uow, request.name)
                upload = _started_before(uow, adapter, request) or self._insert(
                    uow, adapter, upload_id, request, stored
                )
                uow.commit()
        finally:
            if upload is None or upload.id != upload_id:
                self._staging.discard(upload_id)
        return upload

    def get(self, upload_id: str) -> tuple[Upload, list[PersistedFile]]:
        """An open upload and how far it has come; also one that is finished. Raises UPLOAD_NOT_FOUND."""
        with self._database.read() as uow:
            upload = find_upload(uow, upload_id, UploadState.OPEN, UploadState.FINISHED)
        return upload, self._intake.persisted_files(upload)

    def tenant_of(self, upload_id: str) -> str | None:
        """Whose upload it is, in whatever state; None if there is none of this id."""
        with self._database.read() as uow:
            return uow.uploads.tenant_of(upload_id)

    def abort(self, upload_id: str, actor: Actor = STORE) -> None:
        """Gives the upload up: its version is FAILED, what is staged goes. May be called again.

        Raises UPLOAD_NOT_FOUND, also for one that is finished.
        """
        give_up(self._database, self._staging, upload_id, "the upload was given up by its client", actor)

    def finish(self, upload_id: str, actor: Actor = STORE) -> AdapterVersion:
        """Validates the stored files and makes the version ACTIVE. Again: the same version, or refusal.

        Raises UPLOAD_INCOMPLETE, UPLOAD_NOT_FOUND, CORRUPT_BLOB, VERSION_NOT_ACTIVE if it has been deleted
        since, and whatever `validate` refuses; that also makes the version FAILED, with the same words.
        """
        ended = (UploadState.FINISHED, UploadState.REFUSED)
        with self._database.read() as uow:
            upload = find_upload(uow, upload_id, UploadState.OPEN, *ended)
        if upload.state is UploadState.OPEN:
            self._check_complete(upload)
            self._settle(upload, actor)
        with self._database.read() as uow:
            settled = find_upload(uow, upload_id, *ended)
            if settled.refusal is not None:
                raise settled.refusal.error()
            version = find_version(uow, find_adapter(uow, upload.adapter), upload.version)
        if version.state is VersionState.DELETED:
            raise not_active(version)
        return version

    def _check_complete(self, upload: Upload) -> None:
        for persisted, file in zip(self._intake.persisted_files(upload), upload.files, strict=True):
            if file.path not in upload.stored:
                raise incomplete(file, persisted.persisted_bytes)
            if not self._blobs.is_intact(file.sha256, file.size_bytes):
                raise corrupt(file.sha256, f"({file.path}) no longer has the bytes that were uploaded")

    def _settle(self, upload: Upload, actor: Actor) -> None:
        with self._database.read() as uow:
            base_model = find_base_model(uow, upload.base_model)
            version = find_version(uow, find_adapter(uow, upload.adapter), upload.version)
        refusal = weights = None
        began_s = self._timer()
        try:
            # Once more: keys may have been taken back since it was started.
            with self._database.read() as uow:
                name, base = upload.adapter, version.base_model
                check_signed(uow, name, version.name, base, version.files, version.signature)
            weights = validate(upload.files, self._blobs.open, base_model)
        except ServiceError as error:
            if error.reason is Reason.CORRUPT_BLOB:
                raise
            refusal = Refusal(error.code.value, error.reason.value, error.message, error.field)
        self._meter.validated("accepted" if refusal is None else "refused", self._timer() - began_s)
        ended = UploadState.FINISHED if refusal is None else UploadState.REFUSED
        with self._database.write(actor) as uow:
            uow.tenants.lock(upload.adapter.tenant)
            # Whoever else finished or aborted meanwhile has closed it: theirs stands.
            if uow.uploads.close(upload.id, ended, refusal):
                if refusal is None:
                    settle_version(uow, upload, VersionState.ACTIVE, "", weights, base_model.digest)
                else:
                    settle_version(uow, upload, VersionState.FAILED, refusal.message)
                uow.commit()
                if refusal is None:
                    self._meter.activated((self._now() - upload.create_time).total_seconds())
        self._staging.discard(upload.id)

    def _stored_by_tenant(self, request: UploadRequest) -> frozenset[str]:
        with self._database.read() as uow:
            find_adapter(uow, request.name)
            sent = [file for file in request.files if uow.uploads.tenant_has(request.name.tenant, file)]
            there = uow.blobs.stored([file.sha256 for file in sent])
        # Outside the transaction: a blob that this process has not seen yet is read back whole.
        return frozenset(
            f.path for f in sent if f.sha256 in there and self._blobs.is_intact(f.sha256, f.size_bytes)
        )

    def _insert(
        self,
        uow: UnitOfWork,
        adapter: Adapter,
        upload_id: str,
        request: UploadRequest,
        stored: frozenset[str],
    ) -> Upload:
        check_version_quotas(uow, request.name.tenant, request.files)
        open_ids = uow.uploads.open_ids(adapter.id)
        if len(open_ids) >= MAX_OPEN_UPLOADS:
            raise ServiceError(
                Code.RESOURCE_EXHAUSTED,
                Reason.QUOTA_EXCEEDED,
                f"{adapter.name} has {len(open_ids)} open uploads: finish or abort one; the oldest is "
                f"{open_ids[0]}",
                retry_after_s=60.0,
                metadata={"oldest_upload_id": open_ids[0]},
            )
        # Before bytes flow.
        check_signed(
            uow, adapter.name, str(adapter.name), adapter.base_model, request.files, request.signature
        )
        now = self._now()
        version = uow.adapters.next_version(adapter.id)
        uow.versions.insert(
            adapter.id,
            version,
            adapter.base_model,
            adapter_key(request.files),
            request.files,
            stored,
            request.labels,
            request.lineage,
            request.signature,
            now,
        )
        uow.tenant_counts.add(request.name.tenant, request.files)
        uow.uploads.insert(
            upload_id, adapter.id, version, request.request_id or None, request.fingerprint, now
        )
        uow.audit.add(adapter.name.tenant, adapter.name.version(version), f"upload {upload_id}")
        return find_upload(uow, upload_id, UploadState.OPEN)


def _started_before(uow: UnitOfWork, adapter: Adapter, request: UploadRequest) -> Upload | None:
    if not request.request_id:
        return None
    known = uow.uploads.by_request(adapter.id, request.request_id)
    if known is not None and known.fingerprint != request.fingerprint:
        raise invalid_field(
            "request_id",
            f"{quoted(request.request_id)} started another upload to {request.name}, with other files, "
            "labels, lineage or signature: use a new request_id",
        )
    return known


def _missing_positions(files: tuple[VersionFile, ...], stored: frozenset[str]) -> list[int]:
    return [position for position, file in enumerate(files) if file.path not in stored]
