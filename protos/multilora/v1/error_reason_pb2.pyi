from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from typing import ClassVar as _ClassVar

DESCRIPTOR: _descriptor.FileDescriptor

class ErrorReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ERROR_REASON_UNSPECIFIED: _ClassVar[ErrorReason]
    INVALID_FIELD: _ClassVar[ErrorReason]
    CONTEXT_EXCEEDED: _ClassVar[ErrorReason]
    INVALID_ADAPTER: _ClassVar[ErrorReason]
    CHECKSUM_MISMATCH: _ClassVar[ErrorReason]
    BASE_MODEL_MISMATCH: _ClassVar[ErrorReason]
    UNSUPPORTED_ADAPTER: _ClassVar[ErrorReason]
    VERSION_NOT_ACTIVE: _ClassVar[ErrorReason]
    UPLOAD_INCOMPLETE: _ClassVar[ErrorReason]
    BASE_MODEL_CONFLICT: _ClassVar[ErrorReason]
    ADAPTER_NOT_LOADABLE: _ClassVar[ErrorReason]
    NO_CHAT_TEMPLATE: _ClassVar[ErrorReason]
    ADAPTER_NOT_FOUND: _ClassVar[ErrorReason]
    VERSION_NOT_FOUND: _ClassVar[ErrorReason]
    ALIAS_NOT_FOUND: _ClassVar[ErrorReason]
    BASE_MODEL_NOT_FOUND: _ClassVar[ErrorReason]
    UPLOAD_NOT_FOUND: _ClassVar[ErrorReason]
    FILE_NOT_FOUND: _ClassVar[ErrorReason]
    ADAPTER_EXISTS: _ClassVar[ErrorReason]
    ALIAS_MOVED: _ClassVar[ErrorReason]
    STALE_ETAG: _ClassVar[ErrorReason]
    WRONG_OFFSET: _ClassVar[ErrorReason]
    QUEUE_FULL: _ClassVar[ErrorReason]
    POOL_TOO_SMALL: _ClassVar[ErrorReason]
    QUOTA_EXCEEDED: _ClassVar[ErrorReason]
    CORRUPT_BLOB: _ClassVar[ErrorReason]
    DRAINING: _ClassVar[ErrorReason]
    STORE_UNAVAILABLE: _ClassVar[ErrorReason]
    ENGINE_DOWN: _ClassVar[ErrorReason]
    DEADLINE: _ClassVar[ErrorReason]
    INTERNAL_ERROR: _ClassVar[ErrorReason]
ERROR_REASON_UNSPECIFIED: ErrorReason
INVALID_FIELD: ErrorReason
CONTEXT_EXCEEDED: ErrorReason
INVALID_ADAPTER: ErrorReason
CHECKSUM_MISMATCH: ErrorReason
BASE_MODEL_MISMATCH: ErrorReason
UNSUPPORTED_ADAPTER: ErrorReason
VERSION_NOT_ACTIVE: ErrorReason
UPLOAD_INCOMPLETE: ErrorReason
BASE_MODEL_CONFLICT: ErrorReason
ADAPTER_NOT_LOADABLE: ErrorReason
NO_CHAT_TEMPLATE: ErrorReason
ADAPTER_NOT_FOUND: ErrorReason
VERSION_NOT_FOUND: ErrorReason
ALIAS_NOT_FOUND: ErrorReason
BASE_MODEL_NOT_FOUND: ErrorReason
UPLOAD_NOT_FOUND: ErrorReason
FILE_NOT_FOUND: ErrorReason
ADAPTER_EXISTS: ErrorReason
ALIAS_MOVED: ErrorReason
STALE_ETAG: ErrorReason
WRONG_OFFSET: ErrorReason
QUEUE_FULL: ErrorReason
POOL_TOO_SMALL: ErrorReason
QUOTA_EXCEEDED: ErrorReason
CORRUPT_BLOB: ErrorReason
DRAINING: ErrorReason
STORE_UNAVAILABLE: ErrorReason
ENGINE_DOWN: ErrorReason
DEADLINE: ErrorReason
INTERNAL_ERROR: ErrorReason
