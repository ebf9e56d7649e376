"""What one collection found, and freed unless it was a dry run; how long it leaves alone what was deleted."""

from dataclasses import dataclass
from datetime import timedelta

# Whoever has just resolved a version may be about to lease and fetch it: so long its bytes outlive it.
DELETED_GRACE = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Garbage:
    """`orphaned_blobs` are those of `freed_blobs` that no row knew; `missing_sha256s` are damage."""

    freed_blobs: int = 0
    freed_bytes: int = 0
    orphaned_blobs: int = 0
    missing_sha256s: tuple[str, ...] = ()
    expired_uploads: int = 0
