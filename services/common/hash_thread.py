"""SHA-256 of a stream in a thread of its own, so that reading and hashing take turns at nothing.

Knows no files and no network.
"""

import hashlib
import queue
import threading
from typing import Self

CHUNK_BYTES = 1 << 20
_NUM_CHUNKS = 4


class HashThread:
    """Runs for the length of a `with`. At most four chunks wait, so that memory stays bounded.

    Chunks to fill come from `free_chunk` and go to `add`; bytes that nobody changes go to `add_bytes`.
    """

    def __init__(self) -> None:
        self._free: queue.SimpleQueue[memoryview] = queue.SimpleQueue()
        for _ in range(_NUM_CHUNKS):
            self._free.put(memoryview(bytearray(CHUNK_BYTES)))
        # What to hash, and the chunk that is free after it.
        self._full: queue.SimpleQueue[tuple[memoryview | bytes, memoryview] | None] = queue.SimpleQueue()
        self._digest = hashlib.sha256()
        self._thread = threading.Thread(target=self._run, name="hash", daemon=True)

    def free_chunk(self) -> memoryview:
        """A chunk to fill; waits until one has been hashed."""
        return self._free.get()

    def add(self, chunk: memoryview, num_bytes: int) -> None:
        """Hashes the first `num_bytes`; the chunk may be read, but no more written."""
        self._full.put((chunk[:num_bytes], chunk))

    def add_bytes(self, data: bytes) -> None:
        """Hashes `data`; waits while four are waiting."""
        # An unused chunk stands for the place.
        self._full.put((data, self._free.get()))

    def hexdigest(self) -> str:
        """The digest of all that was added; nothing may be added after it."""
        self._full.put(None)
        self._thread.join()
        return self._digest.hexdigest()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._full.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (found := self._full.get()) is not None:
            data, chunk = found
            self._digest.update(data)
            self._free.put(chunk)
