"""A file read once into memory, with the sha256 of each of its chunks; chunks are read side by side.

The digests are those of the bytes in memory: what is checked is what is used, whatever becomes of the
file meanwhile. Must not know which digests are right.
"""

import hashlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from services.inference.adapters.read_buffers import Bytes
from services.inference.adapters.workers import Workers

CHUNK_BYTES = 2 << 20
_DIGEST_BYTES = 32


def read_chunks(path: Path, into: Bytes, workers: Workers, chunk_bytes: int) -> list[bytes]:
    """Fills `into` with the file, which must be a regular one of just that size; the chunks' digests.

    Raises OSError, of a file that is no such file too.
    """
    # Opening a FIFO for reading would wait for a writer.
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode) or found.st_size != into.nbytes:
            raise OSError(f"is no file of {into.nbytes} bytes")

        def read(start: int) -> bytes:
            chunk = into[start : start + chunk_bytes].data
            _read_fully(file, chunk, start)
            return hashlib.sha256(chunk).digest()

        return workers.map(read, range(0, into.nbytes, chunk_bytes))
    finally:
        os.close(file)


def write_digests(path: Path, digests: Sequence[bytes]) -> None:
    """Keeps `digests` in a file, with a digest of their own at its end."""
    body = b"".join(digests)
    path.write_bytes(body + hashlib.sha256(body).digest())


def read_digests(path: Path, num_chunks: int) -> list[bytes]:
    """What `write_digests` kept for so many chunks. Raises OSError if that is not what is there."""
    num_bytes = (num_chunks + 1) * _DIGEST_BYTES
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        kept = os.read(file, num_bytes + 1) if stat.S_ISREG(os.fstat(file).st_mode) else b""
    finally:
        os.close(file)
    body, check = kept[:-_DIGEST_BYTES], kept[-_DIGEST_BYTES:]
    if len(kept) != num_bytes or hashlib.sha256(body).digest() != check:
        raise OSError(f"is no list of {num_chunks} digests")
    return [body[start : start + _DIGEST_BYTES] for start in range(0, len(body), _DIGEST_BYTES)]


def _read_fully(file: int, chunk: memoryview, start: int) -> None:
    done = 0
    while done < len(chunk):
        count = os.preadv(file, [chunk[done:]], start + done)
        if count == 0:
            raise OSError("became shorter while it was read")
        done += count
