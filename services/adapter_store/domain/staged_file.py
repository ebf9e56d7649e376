"""How far one file of an open upload has come in shared object storage."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StagedPart:
    """A part of a multipart upload that object storage has taken."""

    number: int
    size_bytes: int
    etag: str


@dataclass(frozen=True, slots=True)
class StagedFile:
    """`persisted_bytes` are those of `parts` and, after them, of the tail.

    `multipart_id` is empty while there is no part, `tail_sha256` while there is no tail. `hash_state` is
    where the hash of the whole file stands after the parts.
    """

    multipart_id: str = ""
    persisted_bytes: int = 0
    tail_bytes: int = 0
    tail_sha256: str = ""
    hash_state: str = ""
    parts: tuple[StagedPart, ...] = ()

    @property
    def parts_bytes(self) -> int:
        """Bytes of all parts."""
        return self.persisted_bytes - self.tail_bytes
