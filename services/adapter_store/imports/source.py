"""The port to where ImportVersion reads from, and the words for a source that cannot be read.

Knows no scheme: each has a module of its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from services.adapter_store.domain.fields import quoted
from services.common.errors import Code, Reason, ServiceError, unavailable

CHUNK_BYTES = 1 << 20
RETRY_AFTER_S = 5.0


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a source. `state` differs where its bytes may; `sha256` is "" unless the source says it."""

    path: str
    size_bytes: int
    state: str
    sha256: str = ""


class Source(Protocol):
    """One opened source: read by one thread."""

    @property
    def pinned(self) -> str:
        """What exactly is read, if the source's name may come to mean something else; else empty."""
        ...

    @property
    def files(self) -> tuple[SourceFile, ...]:
        """The files at its top, in order of their paths."""
        ...

    def read(self, file: SourceFile, offset: int) -> Iterator[bytes]:
        """The file's bytes from `offset`, in chunks; closing the iterator ends the read.

        Raises SOURCE_NOT_FOUND, also if the file is no longer as it was listed, or STORE_UNAVAILABLE.
        """
        ...

    def close(self) -> None:
        """Lets go of what it holds."""
        ...


def no_source(source: str, why: str) -> ServiceError:
    """SOURCE_NOT_FOUND: the source is not there, or not for the store to read."""
    return ServiceError(
        Code.NOT_FOUND, Reason.SOURCE_NOT_FOUND, f"{quoted(source)} cannot be imported: {why}", field="source"
    )


def source_unavailable(source: str, why: str) -> ServiceError:
    """The source gives no answer now."""
    return unavailable(
        Reason.STORE_UNAVAILABLE,
        f"{quoted(source)} does not answer ({why}): try again in a moment, with the same request_id",
        RETRY_AFTER_S,
    )
