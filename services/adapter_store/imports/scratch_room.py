"""How many bytes each tenant's imports take of this machine's disk, and may take.

An import under way counts for all that it is going to read; one that broke off for what it left. Must not
know sources, nor how files are read.
"""

import threading
from pathlib import Path

from services.common.errors import Code, Reason, ServiceError

DEFAULT_MAX_BYTES = 32 << 30
RETRY_AFTER_S = 60.0


class ScratchRoom:
    """Safe to use from many threads, of the one process that has the disk's directory."""

    def __init__(self, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._taken: dict[Path, int] = {}

    def take(self, directory: Path, num_bytes: int) -> None:
        """Room for an import that will have `num_bytes` in `directory`, beside its tenant's other ones.

        The directory above is the tenant's. Raises QUOTA_EXCEEDED.
        """
        tenant = directory.parent
        with self._lock:
            others = sum(self._bytes_of(other) for other in tenant.glob("*/") if other != directory)
            if others + num_bytes > self._max_bytes:
                raise _full(tenant.name, num_bytes, others, self._max_bytes)
            self._taken[directory] = num_bytes

    def leave(self, directory: Path) -> None:
        """The import is over; what it left counts by itself from now on."""
        with self._lock:
            self._taken.pop(directory, None)

    def _bytes_of(self, directory: Path) -> int:
        taken = self._taken.get(directory)
        return _size_bytes(directory) if taken is None else taken

    def __repr__(self) -> str:
        return f"ScratchRoom(imports={len(self._taken)})"


def _size_bytes(directory: Path) -> int:
    size_bytes = 0
    for path in directory.glob("*"):
        try:
            size_bytes += path.stat().st_size
        except FileNotFoundError:
            continue  # it ends just now
    return size_bytes


def _full(tenant: str, num_bytes: int, others: int, most: int) -> ServiceError:
    beside = f" beside {others} of other imports" if others else ""
    return ServiceError(
        Code.RESOURCE_EXHAUSTED,
        Reason.QUOTA_EXCEEDED,
        f"this import of {num_bytes} bytes{beside} is more than the {most} that imports of tenants/{tenant} "
        "may hold at this store (--import-scratch-bytes): wait for the others, or ask an operator for more",
        retry_after_s=RETRY_AFTER_S,
        metadata={"quota": "import_scratch_bytes", "limit": str(most)},
    )
