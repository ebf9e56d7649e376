"""A directory of the store's own machine, below one of --import-dir.

Links may lead anywhere below the same directory and nowhere else: every part of the real path is opened
without following links, so nothing can be swapped in between.
"""

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from services.adapter_store.imports.source import CHUNK_BYTES, SourceFile, no_source

_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a FIFO would wait for ever.
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NOT_HERE = "give a directory below one of the store's --import-dir"


class LocalSource:
    """The files of one directory."""

    pinned = ""

    def __init__(self, source: str, root: Path, directory: Path) -> None:
        self._source = source
        self._root = root
        self._directory = directory
        self.files = tuple(self._list())

    @classmethod
    def open(cls, source: str, roots: Sequence[Path]) -> Self:
        """`source` is a path, or relative to one of `roots`. Raises SOURCE_NOT_FOUND."""
        if not roots:
            raise no_source(source, "this store reads no local directories: start it with --import-dir")
        for root in (Path(os.path.realpath(root)) for root in roots):
            # What is not there, not below and not for us to read say the same: strangers learn nothing of
            # this machine.
            with contextlib.suppress(OSError):
                directory = Path(os.path.realpath(root / source))
                if directory.is_relative_to(root) and directory.is_dir():
                    return cls(source, root, directory)
        raise no_source(source, _NOT_HERE)

    def read(self, file: SourceFile, offset: int) -> Iterator[bytes]:
        """See Source."""
        descriptor = self._open(file.path)
        with os.fdopen(descriptor, "rb", buffering=0) as opened:
            if _state(os.fstat(descriptor)) != file.state:
                raise no_source(self._source, f"{file.path} was changed meanwhile: import it again")
            opened.seek(offset)
            while chunk := opened.read(CHUNK_BYTES):
                yield chunk

    def close(self) -> None:
        """See Source."""

    def _list(self) -> Iterator[SourceFile]:
        for name in sorted(os.listdir(self._directory)):
            try:
                descriptor = self._open(name)
            except OSError:
                continue  # a directory, a link to elsewhere, or not for us to read
            try:
                found = os.fstat(descriptor)
            finally:
                os.close(descriptor)
            if stat.S_ISREG(found.st_mode):
                yield SourceFile(name, found.st_size, _state(found))

    def _open(self, name: str) -> int:
        """Raises OSError, also for what does not lie below the root."""
        real = Path(os.path.realpath(self._directory / name))
        if not real.is_relative_to(self._root) or real == self._root:
            raise PermissionError(name)
        with ExitStack() as opened:
            at = os.open(self._root, _OPEN_DIR)
            opened.callback(os.close, at)
            for part in real.parent.relative_to(self._root).parts:
                at = os.open(part, _OPEN_DIR, dir_fd=at)
                opened.callback(os.close, at)
            return os.open(real.name, _OPEN_FILE, dir_fd=at)


def _state(found: os.stat_result) -> str:
    return f"{found.st_size}-{found.st_mtime_ns}-{found.st_ino}"
