"""Memory that files are read into, used again and again. Thread-safe; must not know files."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

Bytes = np.ndarray[tuple[int], np.dtype[np.uint8]]


class ReadBuffers:
    """Lends buffers. As many are kept as were ever lent at once, but none over `max_kept_bytes`."""

    def __init__(self, max_kept_bytes: int) -> None:
        self._max_kept_bytes = max_kept_bytes
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
                with self._lock:
                    self._free.append(buffer)

    def _take(self, num_bytes: int) -> Bytes:
        with self._lock:
            fitting = (i for i, buffer in enumerate(self._free) if buffer.nbytes >= num_bytes)
            index = next(fitting, None)
            if index is not None:
                return self._free.pop(index)
            if self._free:
                # One that is too small is replaced, not kept beside the larger.
                self._free.pop()
        return np.empty(num_bytes, dtype=np.uint8)
