"""Errors that a caller is meant to see: what went wrong, which field, what to do.

Must not know gRPC: `services.common.interceptors` turns these into statuses.
"""

from collections.abc import Mapping
from enum import StrEnum


class Code(StrEnum):
    """The gRPC status codes that services answer with; values are grpc.StatusCode names."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    ABORTED = "ABORTED"
    OUT_OF_RANGE = "OUT_OF_RANGE"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    DATA_LOSS = "DATA_LOSS"
    UNAVAILABLE = "UNAVAILABLE"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    INTERNAL = "INTERNAL"


class Reason(StrEnum):
    """The names of `multilora.v1.ErrorReason`; the proto's comments say when each is used."""

    INVALID_FIELD = "INVALID_FIELD"
    CONTEXT_EXCEEDED = "CONTEXT_EXCEEDED"
    INVALID_ADAPTER = "INVALID_ADAPTER"
    CHECKSUM_MISMATCH = "CHECKSUM_MISMATCH"
    BASE_MODEL_MISMATCH = "BASE_MODEL_MISMATCH"
    UNSUPPORTED_ADAPTER = "UNSUPPORTED_ADAPTER"
    VERSION_NOT_ACTIVE = "VERSION_NOT_ACTIVE"
    UPLOAD_INCOMPLETE = "UPLOAD_INCOMPLETE"
    BASE_MODEL_CONFLICT = "BASE_MODEL_CONFLICT"
    ADAPTER_NOT_LOADABLE = "ADAPTER_NOT_LOADABLE"
    NO_CHAT_TEMPLATE = "NO_CHAT_TEMPLATE"
    VERSION_IN_USE = "VERSION_IN_USE"
    BAD_SIGNATURE = "BAD_SIGNATURE"
    NOTHING_TO_ROLL_BACK = "NOTHING_TO_ROLL_BACK"
    ADAPTER_NOT_FOUND = "ADAPTER_NOT_FOUND"
    VERSION_NOT_FOUND = "VERSION_NOT_FOUND"
    ALIAS_NOT_FOUND = "ALIAS_NOT_FOUND"
    BASE_MODEL_NOT_FOUND = "BASE_MODEL_NOT_FOUND"
    UPLOAD_NOT_FOUND = "UPLOAD_NOT_FOUND"
    FILE_NOT_FOUND = "FILE_NOT_FOUND"
    TOKEN_NOT_FOUND = "TOKEN_NOT_FOUND"
    TENANT_NOT_FOUND = "TENANT_NOT_FOUND"
    SOURCE_NOT_FOUND = "SOURCE_NOT_FOUND"
    ADAPTER_EXISTS = "ADAPTER_EXISTS"
    ALIAS_MOVED = "ALIAS_MOVED"
    STALE_ETAG = "STALE_ETAG"
    WRONG_OFFSET = "WRONG_OFFSET"
    QUEUE_FULL = "QUEUE_FULL"
    POOL_TOO_SMALL = "POOL_TOO_SMALL"
    QUOTA_EXCEEDED = "QUOTA_EXCEEDED"
    CORRUPT_BLOB = "CORRUPT_BLOB"
    DRAINING = "DRAINING"
    STORE_UNAVAILABLE = "STORE_UNAVAILABLE"
    ENGINE_DOWN = "ENGINE_DOWN"
    DEADLINE = "DEADLINE"
    NO_TOKEN = "NO_TOKEN"
    BAD_TOKEN = "BAD_TOKEN"
    ROLE_TOO_LOW = "ROLE_TOO_LOW"
    INTERNAL_ERROR = "INTERNAL_ERROR"


class ServiceError(Exception):
    """An answer, not a defect: carries a code, a reason and a message that says what to do.

    `field` names the request field, tensor or config key at fault; `retry_after_s` says when a
    retry makes sense; `metadata` goes into the ErrorInfo. Picklable, so that the engine process
    can hand one to the front end.
    """

    def __init__(
        self,
        code: Code,
        reason: Reason,
        message: str,
        *,
        field: str = "",
        retry_after_s: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.field = field
        self.retry_after_s = retry_after_s
        self.metadata = dict(metadata or {})

    def __reduce__(self) -> tuple[object, ...]:
        return (
            _rebuild,
            (self.code, self.reason, self.message, self.field, self.retry_after_s, self.metadata),
        )

    def __repr__(self) -> str:
        return f"ServiceError({self.code}, {self.reason}, {self.message!r}, field={self.field!r})"


def _rebuild(
    code: Code,
    reason: Reason,
    message: str,
    field: str,
    retry_after_s: float | None,
    metadata: dict[str, str],
) -> ServiceError:
    return ServiceError(code, reason, message, field=field, retry_after_s=retry_after_s, metadata=metadata)


def invalid_field(field: str, message: str) -> ServiceError:
    """The value of request field `field` is never legal."""
    return ServiceError(Code.INVALID_ARGUMENT, Reason.INVALID_FIELD, f"{field}: {message}", field=field)


def not_found(reason: Reason, message: str) -> ServiceError:
    """What the caller named does not exist, or is not his to know of."""
    return ServiceError(Code.NOT_FOUND, reason, message)


def unavailable(reason: Reason, message: str, retry_after_s: float) -> ServiceError:
    """Not now; the same call may work after `retry_after_s`."""
    return ServiceError(Code.UNAVAILABLE, reason, message, retry_after_s=retry_after_s)
