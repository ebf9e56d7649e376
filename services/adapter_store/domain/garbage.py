"""What one collection found, and freed unless it was a dry run."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Garbage:
    """`orphaned_blobs` are those of `freed_blobs` that no row knew; `missing_sha256s` are damage."""

    freed_blobs: int = 0
    freed_bytes: int = 0
    orphaned_blobs: int = 0
    missing_sha256s: tuple[str, ...] = ()
    expired_uploads: int = 0
