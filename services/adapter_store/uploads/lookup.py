"""Finds an upload inside one unit of work, or says why it is not there to be used."""

from services.adapter_store.domain.fields import quoted
from services.adapter_store.domain.upload import Upload, UploadState
from services.adapter_store.metadata import UnitOfWork
from services.common.errors import Reason, ServiceError, not_found


def find_upload(uow: UnitOfWork, upload_id: str, *states: UploadState) -> Upload:
    """The upload, if it is in one of `states`. Raises UPLOAD_NOT_FOUND."""
    upload = uow.uploads.get(upload_id)
    if upload is None:
        raise no_upload(upload_id)
    if upload.state not in states:
        raise _ended(upload_id, upload)
    return upload


def no_upload(upload_id: str) -> ServiceError:
    """There is no upload of this id, or none that the caller may know of."""
    return not_found(
        Reason.UPLOAD_NOT_FOUND, f"upload {quoted(upload_id)} is unknown: start one with StartUpload"
    )


def _ended(upload_id: str, upload: Upload) -> ServiceError:
    what = {
        UploadState.OPEN: "is still open: finish it first",
        UploadState.FINISHED: "is finished: its version is there",
        UploadState.REFUSED: "was refused: its version's status_message says why; start a new upload",
        UploadState.ABORTED: "was given up: start a new upload, with a new request_id",
    }[upload.state]
    return not_found(Reason.UPLOAD_NOT_FOUND, f"upload {quoted(upload_id)} {what}")
