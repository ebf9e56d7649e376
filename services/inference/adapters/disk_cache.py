"""A bounded directory of adapter files, one subdirectory a key, least recently used out first.

An adapter is there whole or not at all, and what is there is checked against its sha256 each time it
is opened. Must not know where files come from.
"""

import hashlib
import logging
import os
import re
import shutil
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from services.inference.adapters.io_orders import FetchSource
from services.inference.request import AdapterFile, AdapterKey

log = logging.getLogger(__name__)

Fill = Callable[[AdapterFile, Path], None]

_INCOMPLETE = ".incomplete-"
_HASH_CHUNK_BYTES = 1 << 20


class DiskCache:
    """Files under `directory`, which may have been filled by an earlier process. Thread-safe.

    More than `capacity_bytes` are there only while they are in use.
    """

    def __init__(self, directory: Path, capacity_bytes: int) -> None:
        self._directory = directory
        self._capacity_bytes = capacity_bytes
        self._lock = threading.Lock()
        self._in_use: set[str] = set()
        self._bytes: dict[str, int] = {}
        directory.mkdir(parents=True, exist_ok=True)
        for leftover in directory.glob(f"{_INCOMPLETE}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        entries = (path for path in directory.iterdir() if _is_key(path.name) and path.is_dir())
        for path in sorted(entries, key=lambda path: path.stat().st_mtime):
            self._bytes[path.name] = _size_bytes(path)
        self._trim()

    @property
    def held_bytes(self) -> int:
        """Bytes of all files here."""
        with self._lock:
            return sum(self._bytes.values())

    @contextmanager
    def open(
        self, key: AdapterKey, files: Sequence[AdapterFile], fill: Fill
    ) -> Iterator[tuple[Path, FetchSource]]:
        """The directory that holds `files`; `fill(file, path)` is called for each if they are not here.

        One caller a key at a time. Whatever `fill` raises is raised, and nothing is kept.
        """
        if not _is_key(key):
            raise ValueError(f"not an adapter key: {key!r}")
        with self._lock:
            assert key not in self._in_use, f"{key} is open already"
            self._in_use.add(key)
        try:
            yield self._find_or_fill(key, files, fill)
        finally:
            with self._lock:
                self._in_use.remove(key)
            self._trim()

    def _find_or_fill(
        self, key: AdapterKey, files: Sequence[AdapterFile], fill: Fill
    ) -> tuple[Path, FetchSource]:
        path = self._directory / key
        if path.is_dir() and self._is_intact(path, files):
            self._note(key, _size_bytes(path))
            os.utime(path)
            return path, FetchSource.DISK
        incomplete = Path(tempfile.mkdtemp(prefix=_INCOMPLETE, dir=self._directory))
        try:
            for file in files:
                fill(file, incomplete / file.path)
            _remove(path)
            incomplete.rename(path)
        except BaseException:
            shutil.rmtree(incomplete, ignore_errors=True)
            raise
        self._note(key, _size_bytes(path))
        return path, FetchSource.STORE

    def _is_intact(self, path: Path, files: Sequence[AdapterFile]) -> bool:
        for file in files:
            try:
                found = (path / file.path).lstat()
                # Anything but a file of this size is not opened: reading a FIFO would never end.
                intact = stat.S_ISREG(found.st_mode) and found.st_size == file.size_bytes
                intact = intact and _sha256(path / file.path) == file.sha256
            except OSError:
                intact = False
            if not intact:
                log.warning("%s in the adapter cache is damaged: it is fetched again", path / file.path)
                return False
        return True

    def _note(self, key: AdapterKey, num_bytes: int) -> None:
        with self._lock:
            self._bytes.pop(key, None)
            self._bytes[key] = num_bytes

    def _trim(self) -> None:
        with self._lock:
            over_bytes = sum(self._bytes.values()) - self._capacity_bytes
            for key in tuple(self._bytes):
                if over_bytes <= 0:
                    return
                if key not in self._in_use:
                    shutil.rmtree(self._directory / key, ignore_errors=True)
                    over_bytes -= self._bytes.pop(key)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _is_key(name: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{64}", name) is not None


def _size_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.iterdir())


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_HASH_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
