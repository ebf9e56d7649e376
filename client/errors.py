"""What a failed call raises: code, reason, field and message, read from the google.rpc.Status in it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

# gRPC carries a google.rpc.Status beside the plain code and message under this key.
_STATUS_KEY = "grpc-status-details-bin"


class MultiloraError(Exception):
    """A call that did not succeed.

    `code` is the gRPC status code's name (`NOT_FOUND`), `reason` a name of `multilora.v1.ErrorReason`
    (empty if the server sent none, e.g. when it could not be reached), `field` the request field, tensor
    or config key at fault, `retry_after_s` when the same call may work, `metadata` the rest of the ErrorInfo.
    Picklable, so that a process can hand one to another.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        reason: str = "",
        field: str = "",
        retry_after_s: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = reason
        self.field = field
        self.retry_after_s = retry_after_s
        self.metadata = dict(metadata or {})

    def __str__(self) -> str:
        head = f"{self.code} {self.reason}" if self.reason else self.code
        tail = f" (field: {self.field})" if self.field and self.field not in self.message else ""
        return f"{head}: {self.message}{tail}"

    def __reduce__(self) -> tuple[object, ...]:
        fields = (self.code, self.message, self.reason, self.field, self.retry_after_s, self.metadata)
        return _rebuild, fields

    def __repr__(self) -> str:
        return (
            f"MultiloraError({self.code!r}, {self.message!r}, reason={self.reason!r}, field={self.field!r})"
        )


def _rebuild(
    code: str,
    message: str,
    reason: str,
    field: str,
    retry_after_s: float | None,
    metadata: dict[str, str],
) -> MultiloraError:
    return MultiloraError(
        code, message, reason=reason, field=field, retry_after_s=retry_after_s, metadata=metadata
    )


def invalid(field: str, message: str) -> MultiloraError:
    """An argument that needs no server to be refused."""
    return MultiloraError("INVALID_ARGUMENT", message, reason="INVALID_FIELD", field=field)


def from_rpc_error(error: grpc.aio.AioRpcError) -> MultiloraError:
    """`error` with what its details say; a status without details keeps code and message."""
    reason, field, retry_after_s = "", "", None
    metadata: dict[str, str] = {}
    for detail in _status(error).details:
        info = error_details_pb2.ErrorInfo()
        request = error_details_pb2.BadRequest()
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(request) and request.field_violations:
            field = request.field_violations[0].field
        elif detail.Unpack(retry):
            retry_after_s = retry.retry_delay.ToTimedelta().total_seconds()
    field = metadata.pop("field", field)
    message = error.details() or "the server gave no message"
    if error.code() is grpc.StatusCode.UNAVAILABLE and not reason:
        message = (
            "no answer: is the service running (multilora store, multilora serve), is its address right "
            f"(--store, --server), and does it speak TLS if and only if you do (--ca-file)? ({message})"
        )
    if error.code() is grpc.StatusCode.UNIMPLEMENTED and not reason:
        message = (
            "the service at this address does not know this call: is it the other service's address "
            f"(store, server), or an older version? ({message})"
        )
    return MultiloraError(
        error.code().name, message, reason=reason, field=field, retry_after_s=retry_after_s, metadata=metadata
    )


def _status(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    status = status_pb2.Status()
    for key, value in error.trailing_metadata() or ():
        if key == _STATUS_KEY:
            try:
                status.ParseFromString(value if isinstance(value, bytes) else value.encode())
            except DecodeError:
                return status_pb2.Status()
    return status


@contextmanager
def rpc_errors() -> Iterator[None]:
    """Turns a gRPC error raised inside into a MultiloraError."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from None
