"""A bounded directory of adapter files, one subdirectory a key, least recently used out first.

An adapter is there whole or not at all. A file's sha256 is checked when it comes in, and digests of its
chunks are kept beside it; each later read checks those, in several threads, on the very bytes that it
returns. A file of one chunk is checked against its sha256 itself. Must not know where files come from.
"""

import hashlib
import logging
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from services.common.errors import Code, Reason, ServiceError
from services.inference.adapters.directory_lock import DirectoryLock
from services.inference.adapters.file_chunks import CHUNK_BYTES, read_chunks, read_digests, write_digests
from services.inference.adapters.read_buffers import Bytes, ReadBuffers
from services.inference.adapters.workers import Workers
from services.inference.request import AdapterFile, AdapterKey

log = logging.getLogger(__name__)

Fill = Callable[[AdapterFile, Path], None]

_INCOMPLETE = ".incomplete-"


class DiskCache:
    """Files under `directory`, which may have been filled by an earlier process. Thread-safe.

    More than `capacity_bytes` are there only while they are in use. One process at a time: raises
    ValueError if another has the directory.
    """

    def __init__(
        self,
        directory: Path,
        capacity_bytes: int,
        workers: Workers,
        buffers: ReadBuffers,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> None:
        self._directory = directory
        self._capacity_bytes = capacity_bytes
        self._workers = workers
        self._buffers = buffers
        self._chunk_bytes = chunk_bytes
        self._lock = threading.Lock()
        self._in_use: set[str] = set()
        self._bytes: dict[str, int] = {}
        # What lies here is served without asking the store again: nobody else should write to it.
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory_lock = DirectoryLock(directory)
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

    def close(self) -> None:
        """Leaves the directory to the next process."""
        self._directory_lock.release()

    @contextmanager
    def open(self, key: AdapterKey, files: Sequence[AdapterFile]) -> Iterator[list[Bytes] | None]:
        """The bytes of `files`, good until the end of the block; None if they are not here and whole.

        One caller a key at a time, `fill` included.
        """
        with self._using(key), ExitStack() as stack:
            yield self._read(key, files, stack)

    @contextmanager
    def fill(self, key: AdapterKey, files: Sequence[AdapterFile], fill: Fill) -> Iterator[list[Bytes]]:
        """Calls `fill(file, path)` for each of `files`, checks and keeps them; their bytes as `open` gives.

        Whatever `fill` raises is raised, and CORRUPT_BLOB for a file that is not what it should be; then
        nothing is kept.
        """
        with self._using(key), ExitStack() as stack:
            path = self._directory / key
            incomplete = Path(tempfile.mkdtemp(prefix=_INCOMPLETE, dir=self._directory))
            try:
                for file in files:
                    fill(file, incomplete / file.path)
                contents = [self._take_in(incomplete, file, stack) for file in files]
                _remove(path)
                incomplete.rename(path)
            except BaseException:
                shutil.rmtree(incomplete, ignore_errors=True)
                raise
            self._note(key, _size_bytes(path))
            yield contents

    def _read(self, key: AdapterKey, files: Sequence[AdapterFile], stack: ExitStack) -> list[Bytes] | None:
        path = self._directory / key
        if not path.is_dir():
            return None
        contents = []
        for file in files:
            try:
                contents.append(self._read_kept(path, file, stack))
            except OSError as error:
                log.warning("%s in the adapter cache is fetched again: it %s", path / file.path, error)
                return None
        self._note(key, _size_bytes(path))
        os.utime(path)
        return contents

    def _read_kept(self, directory: Path, file: AdapterFile, stack: ExitStack) -> Bytes:
        num_chunks = -(-file.size_bytes // self._chunk_bytes)
        if num_chunks > 1:
            right = read_digests(directory / _digests_name(file), num_chunks)
            content, found = self._content(directory, file, stack)
            if found != right:
                raise OSError("differs from the digests kept beside it")
            return content
        content, _ = self._content(directory, file, stack)
        if not _is_whole(content, file):
            raise OSError("differs from its sha256")
        return content

    def _take_in(self, directory: Path, file: AdapterFile, stack: ExitStack) -> Bytes:
        try:
            content, digests = self._content(directory, file, stack)
        except OSError as error:
            raise _corrupt(file, str(error)) from error
        if not _is_whole(content, file):
            raise _corrupt(file, "differs from its sha256")
        if len(digests) > 1:
            write_digests(directory / _digests_name(file), digests)
        return content

    def _content(self, directory: Path, file: AdapterFile, stack: ExitStack) -> tuple[Bytes, list[bytes]]:
        content = stack.enter_context(self._buffers.lend(file.size_bytes))
        return content, read_chunks(directory / file.path, content, self._workers, self._chunk_bytes)

    @contextmanager
    def _using(self, key: AdapterKey) -> Iterator[None]:
        if not _is_key(key):
            raise ValueError(f"not an adapter key: {key!r}")
        with self._lock:
            assert key not in self._in_use, f"{key} is open already"
            self._in_use.add(key)
        try:
            yield
        finally:
            with self._lock:
                self._in_use.remove(key)
            self._trim()

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


def _corrupt(file: AdapterFile, what: str) -> ServiceError:
    message = f"{file.path} came in damaged: it {what}; upload the adapter again"
    return ServiceError(Code.DATA_LOSS, Reason.CORRUPT_BLOB, message)


def _digests_name(file: AdapterFile) -> str:
    return f".{file.path}.chunks"


def _is_whole(content: Bytes, file: AdapterFile) -> bool:
    return hashlib.sha256(content.data).hexdigest() == file.sha256


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _is_key(name: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{64}", name) is not None


def _size_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.iterdir())
