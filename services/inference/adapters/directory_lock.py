"""A directory that one process has to itself, until it lets go or ends. Must not know what is in it."""

import fcntl
import os
from pathlib import Path


class DirectoryLock:
    """Locks `directory`. Raises ValueError if somebody else has it."""

    def __init__(self, directory: Path) -> None:
        self._handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._handle)
            message = f"--cache-dir: {directory} is used by another server: give each server its own"
            raise ValueError(message) from None

    def release(self) -> None:
        """Lets others have it; the same again does nothing."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
