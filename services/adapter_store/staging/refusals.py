"""What is wrong with bytes on their way in, in words that say what to do. Knows no place."""

from services.adapter_store.domain.version import VersionFile
from services.common.errors import Code, Reason, ServiceError, invalid_field


def wrong_offset(offset: int, persisted_bytes: int) -> ServiceError:
    """WRONG_OFFSET: says where to go on."""
    return ServiceError(
        Code.OUT_OF_RANGE,
        Reason.WRONG_OFFSET,
        f"write_offset is {offset}, but {persisted_bytes} bytes are persisted: go on from there",
        field="write_offset",
        metadata={"persisted_bytes": str(persisted_bytes)},
    )


def incomplete(file: VersionFile, persisted_bytes: int) -> ServiceError:
    """UPLOAD_INCOMPLETE: says which file lacks how much."""
    return ServiceError(
        Code.FAILED_PRECONDITION,
        Reason.UPLOAD_INCOMPLETE,
        f"{file.path}: {persisted_bytes} of {file.size_bytes} bytes are persisted: send the rest from there, "
        "with `finish` in the last message",
        field=file.path,
        metadata={"persisted_bytes": str(persisted_bytes), "path": file.path},
    )


def too_long(file: VersionFile) -> ServiceError:
    """INVALID_FIELD: more bytes than declared."""
    return invalid_field(
        "data",
        f"{file.path} would grow past the {file.size_bytes} bytes that StartUpload declared: nothing of this "
        "chunk was stored; send what was declared, or start a new upload",
    )


def wrong_bytes(file: VersionFile) -> ServiceError:
    """CHECKSUM_MISMATCH: the whole file is not what StartUpload declared."""
    return ServiceError(
        Code.INVALID_ARGUMENT,
        Reason.CHECKSUM_MISMATCH,
        f"{file.path}: the bytes do not have the sha256 that StartUpload declared, and are "
        "dropped: send the file again from offset 0, or start a new upload with the right sha256",
        field=file.path,
        metadata={"persisted_bytes": "0"},
    )
