"""How an upload ends: who closes its row says in the same transaction what becomes of its version."""

from services.adapter_store.domain.actor import Actor
from services.adapter_store.domain.change import ChangeKind
from services.adapter_store.domain.upload import Upload, UploadState
from services.adapter_store.domain.version import VersionState, WeightsSummary
from services.adapter_store.metadata import Database, UnitOfWork
from services.adapter_store.staging import Staging
from services.adapter_store.uploads.lookup import find_upload


def give_up(database: Database, staging: Staging, upload_id: str, why: str, actor: Actor) -> None:
    """Its version is FAILED, what is staged goes. May be called again.

    Raises UPLOAD_NOT_FOUND, also for one that is finished.
    """
    with database.write(actor) as uow:
        upload = find_upload(uow, upload_id, UploadState.OPEN, UploadState.REFUSED, UploadState.ABORTED)
        uow.tenants.lock(upload.adapter.tenant)
        if uow.uploads.close(upload_id, UploadState.ABORTED):
            settle_version(uow, upload, VersionState.FAILED, why)
            uow.commit()
    staging.discard(upload_id)


def settle_version(
    uow: UnitOfWork,
    upload: Upload,
    state: VersionState,
    status_message: str = "",
    weights: WeightsSummary | None = None,
    base_model_digest: str = "",
) -> None:
    """What an upload that this transaction has closed leaves of its version: ACTIVE or FAILED.

    The tenant was locked before the upload was closed: whoever needs both does it in this order.
    """
    if state is VersionState.FAILED:
        uow.tenant_counts.drop(upload.adapter.tenant, upload.adapter_id, upload.version)
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
