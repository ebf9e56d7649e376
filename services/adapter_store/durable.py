"""Files that survive a power cut: fsync of files, of the directories that name them, and safe hashing."""

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

HASH_CHUNK_BYTES = 1 << 20


def fsync_dir(path: Path) -> None:
    """Makes the names in directory `path` durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_dirs(path: Path) -> None:
    """Makes `path` and what is missing above it, durably."""
    if path.is_dir():
        return
    make_dirs(path.parent)
    path.mkdir(exist_ok=True)
    fsync_dir(path.parent)


def sha256_of(file: BinaryIO) -> str:
    """sha256 in hex of `file` from its start, read in bounded chunks."""
    file.seek(0)
    digest = hashlib.sha256()
    while chunk := file.read(HASH_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()
