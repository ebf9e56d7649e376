"""What the adapter store's statuses mean to inference. Must not know stubs or names of RPCs."""

import logging
from typing import cast

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from services.common.errors import Code, Reason, ServiceError, unavailable

log = logging.getLogger(__name__)

RETRY_AFTER_S = 1.0
# The store's own answers, which hold whoever asks; anything else may be different next time.
_ANSWERS = (
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.DATA_LOSS,
    grpc.StatusCode.INTERNAL,
)


def store_error(error: grpc.RpcError) -> ServiceError:
    """An RPC's failure as the ServiceError that inference's own caller is to see.

    The store's refusals keep code, reason and words; no answer becomes STORE_UNAVAILABLE.
    """
    code, details = error.code(), error.details() or ""
    if code not in _ANSWERS:
        return _no_answer(code, details)
    status = rpc_status.from_call(cast(grpc.Call, error))
    info = error_details_pb2.ErrorInfo()
    for detail in [] if status is None else status.details:
        if detail.Is(info.DESCRIPTOR):
            detail.Unpack(info)
    try:
        reason = Reason(info.reason)
    except ValueError:
        return _no_answer(code, details)
    return ServiceError(Code(code.name), reason, details, field=_field(status), metadata=dict(info.metadata))


def refused_field(error: grpc.RpcError) -> str:
    """The request field that the store's refusal names; empty if it names none."""
    return _field(rpc_status.from_call(cast(grpc.Call, error)))


def store_unavailable(details: str) -> ServiceError:
    """The store gave no answer that means anything."""
    message = f"the adapter store does not answer ({details}); try again in a moment"
    return unavailable(Reason.STORE_UNAVAILABLE, message, RETRY_AFTER_S)


def _no_answer(code: grpc.StatusCode, details: str) -> ServiceError:
    # gRPC's words name the store's host and port: they are for the operator alone.
    log.warning("the adapter store does not answer: %s: %s", code.name, details)
    return store_unavailable(code.name)


def corrupt(version_name: str, path: str, what: str) -> ServiceError:
    """Bytes that arrived are not the bytes that were uploaded."""
    message = f"{path} of {version_name} is damaged: {what}; upload the adapter again"
    return ServiceError(Code.DATA_LOSS, Reason.CORRUPT_BLOB, message)


def _field(status: status_pb2.Status | None) -> str:
    request = error_details_pb2.BadRequest()
    for detail in [] if status is None else status.details:
        if detail.Is(request.DESCRIPTOR):
            detail.Unpack(request)
            return str(request.field_violations[0].field) if request.field_violations else ""
    return ""
