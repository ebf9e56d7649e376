"""The life of an upload, from the version number it reserves to the version it becomes."""

import contextlib
import hashlib
import json
import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

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
from services.adapter_store.domain.change import ChangeKind
from services.adapter_store.domain.fields import check_labels, check_range, check_text, quoted
from services.adapter_store.domain.names import AdapterName
from services.adapter_store.domain.upload import PersistedFile, Refusal, Upload, UploadState
from services.adapter_store.domain.version import (
    AdapterVersion,
    Lineage,
    VersionFile,
    VersionState,
    WeightsSummary,
    adapter_key,
    not_active,
)
from services.adapter_store.manifest import check_files, validate
from services.adapter_store.metadata import Database, UnitOfWork
from services.adapter_store.staging import Staging, incomplete
from services.adapter_store.uploads.intake import Intake
from services.adapter_store.uploads.lookup import find_upload
from services.adapter_store.uploads.signed import check_signed
from services.common.errors import Code, Reason, ServiceError, invalid_field
from services.common.manifest_signature import Signature

log = logging.getLogger(__name__)

MAX_OPEN_UPLOADS = 16
IDLE_S = 86_400


@dataclass(frozen=True, slots=True)
class _Request:
    """A StartUpload whose fields have been checked."""

    name: AdapterName
    files: tuple[VersionFile, ...]
    labels: dict[str, str]
    lineage: Lineage
    request_id: str
    signature: Signature | None

    @property
    def fingerprint(self) -> str:
        """Tells one request from another under the same request_id."""
        content = [adapter_key(self.files), self.labels, asdict(self.lineage)]
        if self.signature is not None:
            content += [self.signature.key_id, self.signature.signature.hex()]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


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
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._staging = staging
        self._intake = intake
        self._now = now
        self._max_upload_bytes = max_upload_bytes

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
        _check_lineage(lineage)
        check_text(request_id, "request_id", max_chars=128)
        if signature is not None:
            check_text(signature.key_id, "signature.key_id", max_chars=63, required=True)
            check_range(len(signature.signature), "signature.signature", low=64, high=64)
        request = _Request(name, files, check_labels(labels), lineage, request_id, signature)
        upload = None
        while upload is None:
            upload = self._start(request, self._stored_by_tenant(request), actor)
        return upload, self._intake.persisted_files(upload)

    def _start(self, request: _Request, stored: frozenset[str], actor: Actor) -> Upload | None:
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
                upload = _known(uow, adapter, request) or self._insert(
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
        self._give_up(upload_id, "the upload was given up by its client", actor)

    def expire_idle(self, dry_run: bool = False) -> int:
        """Gives up the uploads without news for a day; returns how many those are, also in a dry run."""
        before = self._now() - timedelta(seconds=IDLE_S)
        with self._database.read() as uow:
            found = [uow.uploads.get(upload_id) for upload_id in uow.uploads.open_ids()]
        idle = [
            upload
            for upload in found
            if upload is not None
            and upload.create_time < before
            and self._staging.last_append(upload.id) < before
        ]
        for upload in () if dry_run else idle:
            with contextlib.suppress(ServiceError):  # it ended meanwhile
                self._give_up(upload.id, "the upload was given up: nothing was sent for a day", STORE)
        return len(idle)

    def _give_up(self, upload_id: str, why: str, actor: Actor) -> None:
        with self._database.write(actor) as uow:
            upload = find_upload(uow, upload_id, UploadState.OPEN, UploadState.REFUSED, UploadState.ABORTED)
            if uow.uploads.close(upload_id, UploadState.ABORTED):
                _settle_version(uow, upload, VersionState.FAILED, why)
                uow.commit()
        self._staging.discard(upload_id)

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
        ended = UploadState.FINISHED if refusal is None else UploadState.REFUSED
        with self._database.write(actor) as uow:
            # Whoever else finished or aborted meanwhile has closed it: theirs stands.
            if uow.uploads.close(upload.id, ended, refusal):
                if refusal is None:
                    _settle_version(uow, upload, VersionState.ACTIVE, "", weights, base_model.digest)
                else:
                    _settle_version(uow, upload, VersionState.FAILED, refusal.message)
                uow.commit()
        self._staging.discard(upload.id)

    def _stored_by_tenant(self, request: _Request) -> frozenset[str]:
        with self._database.read() as uow:
            find_adapter(uow, request.name)
            sent = [file for file in request.files if uow.uploads.tenant_has(request.name.tenant, file)]
            there = uow.blobs.stored([file.sha256 for file in sent])
        # Outside the transaction: a blob that this process has not seen yet is read back whole.
        return frozenset(
            f.path for f in sent if f.sha256 in there and self._blobs.is_intact(f.sha256, f.size_bytes)
        )

    def _insert(
        self, uow: UnitOfWork, adapter: Adapter, upload_id: str, request: _Request, stored: frozenset[str]
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
        uow.uploads.insert(
            upload_id, adapter.id, version, request.request_id or None, request.fingerprint, now
        )
        uow.audit.add(adapter.name.tenant, adapter.name.version(version), f"upload {upload_id}")
        return find_upload(uow, upload_id, UploadState.OPEN)


def _known(uow: UnitOfWork, adapter: Adapter, request: _Request) -> Upload | None:
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


def _settle_version(
    uow: UnitOfWork,
    upload: Upload,
    state: VersionState,
    status_message: str = "",
    weights: WeightsSummary | None = None,
    base_model_digest: str = "",
) -> None:
    moved = uow.versions.move_state(
        upload.adapter_id,
        upload.version,
        VersionState.CREATING,
        state,
        status_message=status_message,
        weights=weights,
        base_model_digest=base_model_digest,
    )
    assert moved, "the version of an open upload is CREATING"
    name = upload.adapter.version(upload.version)
    uow.audit.add(upload.adapter.tenant, name, f"{state} {status_message}".strip())
    if state is VersionState.ACTIVE:
        uow.changes.add(ChangeKind.VERSION_ACTIVE, upload.adapter.tenant, name)


def _missing_positions(files: tuple[VersionFile, ...], stored: frozenset[str]) -> list[int]:
    return [position for position, file in enumerate(files) if file.path not in stored]


def _check_lineage(lineage: Lineage) -> None:
    for field, text in asdict(lineage).items():
        check_text(text, f"lineage.{field}", max_chars=4096 if field == "notes" else 512)
