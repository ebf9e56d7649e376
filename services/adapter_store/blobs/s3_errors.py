"""What object storage's failures mean: gone, lost, or not now. Must not know blobs."""

from services.common.errors import Reason, ServiceError, unavailable

RETRY_AFTER_S = 2.0


class ObjectMissingError(Exception):
    """There is no object of this key."""


class MultipartLostError(Exception):
    """The multipart upload, or a part of it, is not there (any more): its bytes have to be sent again."""


MISSING = frozenset({"NoSuchKey", "NoSuchObject"})
LOST = frozenset({"NoSuchUpload", "InvalidPart", "InvalidPartOrder", "EntityTooSmall"})


def storage_unavailable(why: str, code: str = "") -> ServiceError:
    """STORE_UNAVAILABLE: object storage gave no answer that means anything, or refused with `code`."""
    message = f"the store's object storage does not answer ({why}): try again in a moment"
    error = unavailable(Reason.STORE_UNAVAILABLE, message, RETRY_AFTER_S)
    if code:
        error.metadata["storage_code"] = code
    return error
