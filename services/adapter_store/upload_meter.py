"""How long uploads and their validation take, and the bytes that move. Any thread may note and read.

Must not know who exports it.
"""

import threading

from services.common.histogram import Histogram


class UploadMeter:
    """All uploads of one process since its start; `validation_seconds` is by accepted and refused."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.upload_seconds = Histogram()
        self.validation_seconds = {"accepted": Histogram(), "refused": Histogram()}
        self.received_bytes = 0

    def validated(self, outcome: str, seconds: float) -> None:
        """A validation has ended, `accepted` or `refused`."""
        with self._lock:
            self.validation_seconds[outcome].observe(seconds)

    def activated(self, seconds: float) -> None:
        """An upload has become a version, `seconds` after it was started."""
        with self._lock:
            self.upload_seconds.observe(seconds)

    def received(self, num_bytes: int) -> None:
        """Bytes of a chunk were taken."""
        with self._lock:
            self.received_bytes += num_bytes

    def __repr__(self) -> str:
        return f"UploadMeter({self.upload_seconds.num_observed} uploads, {self.received_bytes} bytes)"
