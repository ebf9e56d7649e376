"""The port to where the bytes of uploads lie until they are blobs.

What is staged is always a prefix of what the uploader sent, and goes only after its bytes are in the blob
store and the database says so.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

from services.adapter_store.domain.upload import Upload
from services.adapter_store.domain.version import VersionFile


class FileStage(Protocol):
    """One file of an upload, as one stream sees it: from any thread, by one at a time.

    Every method raises FileNotFoundError if the file is no longer staged: it is stored, or its upload over.
    """

    def append(self, offset: int, data: bytes) -> int:
        """Takes `data` if `offset` bytes were taken before; returns the new length, not durable yet.

        Raises WRONG_OFFSET, INVALID_FIELD if the file would grow past its declared size, QUOTA_EXCEEDED
        if there is no room, STORE_UNAVAILABLE.
        """
        ...

    def persisted_bytes(self) -> int:
        """Makes what was taken durable; returns how much is."""
        ...

    def stored(self, before_put: Callable[[], None]) -> AbstractContextManager[None]:
        """Inside the `with` the file's verified bytes are in the blob store; after it nothing is staged.

        `before_put` is called once the bytes are known to be right. Raises UPLOAD_INCOMPLETE if bytes are
        missing, CHECKSUM_MISMATCH if they are wrong (then what is staged is dropped), STORE_UNAVAILABLE.
        """
        ...

    def leave(self) -> None:
        """The stream is over, however it ended: what it took is kept as far as possible. Raises nothing."""
        ...


class Staging(Protocol):
    """Files of uploads, by upload id and the file's position in its version."""

    @property
    def max_streams(self) -> int:
        """How many files may be open for bytes at once, so that memory stays bounded; 0: any number."""
        ...

    def create(self, upload_id: str, positions: list[int]) -> None:
        """Makes room for these files of a new upload, durably; what exists stays as it is."""
        ...

    def open(self, upload_id: str, position: int, file: VersionFile) -> FileStage:
        """Where the bytes of one file go. Does nothing yet."""
        ...

    def discard(self, upload_id: str) -> None:
        """Drops all that is staged of an upload that is over."""
        ...

    def recover(self, open_uploads: Iterable[Upload]) -> None:
        """Once at start: drops what ended uploads left, and makes open ones able to go on."""
        ...

    def problems(self, open_uploads: Iterable[Upload]) -> list[str]:
        """What is wrong, one line each; for a store that is at rest."""
        ...

    def last_append(self, upload_id: str) -> datetime:
        """When bytes of the upload last arrived; long ago if nothing of it is staged."""
        ...

    def sweep(self, older_than: datetime) -> None:
        """Drops what no open upload refers to and was last touched before `older_than`."""
        ...
