"""Memory that files are read into, used again and again. Thread-safe; must not know files."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

Bytes = np.ndarray[tuple[int], np.dtype[np.uint8]]


class ReadBuffers:
    """Lends buffers; keeps at most `max_kept`, the larger ones, and none over `max_kept_bytes`."""

    def __init__(self, max_kept_bytes: int, max_kept: int) -> None:
        self._max_kept_bytes = max_kept_bytes
        self._max_kept = max_kept
        self._lock = threading.Lock()
        self._free: list[Bytes] = []

    @contextmanager
    def lend(self, num_bytes: int) -> Iterator[Bytes]:
        """`num_bytes` of a buffer with any bytes in it, good until the end of the block."""
        buffer = self._take(num_bytes)
        try:
            yield buffer[:num_bytes]
        finally:
            if buffer.nbytes <= self._max_kept_bytes:
                self._keep(buffer)

    def _keep(self, buffer: Bytes) -> None:
        with self._lock:
            self._free.append(buffer)
            if len(self._free) > self._max_kept:
                smallest = min(range(len(self._free)), key=lambda index: self._free[index].nbytes)
                del self._free[smallest]

    def _take(self, num_bytes: int) -> Bytes:
        with self._lock:
            # The smallest that fits: a small file must not take the buffer of a large one.
            fitting = [i for i, buffer in enumerate(self._free) if buffer.nbytes >= num_bytes]
            if fitting:
                return self._free.pop(min(fitting, key=lambda index: self._free[index].nbytes))
        return np.empty(num_bytes, dtype=np.uint8)
