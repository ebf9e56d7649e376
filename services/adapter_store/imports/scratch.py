"""Files of one import on this machine's disk, before they are an upload: what came stays for the next try."""

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import IO

from services.adapter_store.domain.version import VersionFile
from services.adapter_store.durable import make_dirs, sha256_of
from services.adapter_store.imports.scratch_room import ScratchRoom
from services.adapter_store.imports.source import Source, SourceFile, source_unavailable
from services.common.errors import Code, Reason, ServiceError, unavailable

# Called with a file and how many of its bytes are here; raises to end the import.
Report = Callable[[SourceFile, int], None]


class Scratch:
    """One import's directory, locked while it is used."""

    def __init__(self, directory: Path, room: ScratchRoom) -> None:
        self._directory = directory
        self._room = room

    def take_room(self, files: Sequence[SourceFile]) -> None:
        """Before `files` are fetched, or the rest of them. Raises QUOTA_EXCEEDED.

        What earlier calls left of others goes: the source has changed, and nobody would count it.
        """
        wanted = {self.path(file) for file in files}
        for path in self._directory.iterdir():
            if path not in wanted:
                path.unlink()
        self._room.take(self._directory, sum(file.size_bytes for file in files))

    def path(self, file: SourceFile) -> Path:
        """Where the file's bytes lie; other bytes under the same name lie elsewhere."""
        name = hashlib.sha256(f"{file.path}\n{file.size_bytes}\n{file.state}".encode()).hexdigest()
        return self._directory / name[:32]

    def fetch(self, source: Source, source_name: str, file: SourceFile, report: Report) -> VersionFile:
        """Reads what is not here yet; the file as it is to be uploaded.

        Raises what the source and `report` raise, and CHECKSUM_MISMATCH if the source said another sha256.
        """
        with self.path(file).open("ab") as out:
            num_bytes = out.tell()
            report(file, num_bytes)
            with contextlib.closing(_chunks(source, file, num_bytes)) as chunks:
                for chunk in chunks:
                    num_bytes += len(chunk)
                    if num_bytes > file.size_bytes:
                        break
                    out.write(chunk)
                    report(file, num_bytes)
        if num_bytes < file.size_bytes:
            raise source_unavailable(source_name, f"{file.path} ended early")
        with self.path(file).open("rb") as whole:
            sha256 = sha256_of(whole)
        if num_bytes > file.size_bytes or (file.sha256 and sha256 != file.sha256):
            self.path(file).unlink()
            raise _other_bytes(file)
        return VersionFile(file.path, file.size_bytes, sha256)


class Scratches:
    """Directories of imports below `root`, one of each tenant, by names that say which import it is."""

    def __init__(self, root: Path, room: ScratchRoom) -> None:
        self._root = root
        self._room = room

    @contextlib.contextmanager
    def open(self, tenant: str, name: str, *, keep: bool) -> Iterator[Scratch]:
        """The directory `name`, for this caller alone; its files stay if the `with` fails and `keep` is true.

        Raises STORE_UNAVAILABLE if another call has it.
        """
        directory = self._root / tenant / hashlib.sha256(name.encode()).hexdigest()[:32]
        make_dirs(directory)
        with directory.with_name(f"{directory.name}.lock").open("w") as lock:
            if not _locked(lock, Path(lock.name)):
                message = "this import is under way in another call: wait for that one, then ask again"
                raise unavailable(Reason.STORE_UNAVAILABLE, message, 5.0)
            make_dirs(directory)
            try:
                yield Scratch(directory, self._room)
            except BaseException:
                if not keep:
                    self._remove(directory)
                raise
            finally:
                self._room.leave(directory)
            self._remove(directory)

    def sweep(self, older_than_s: float) -> None:
        """Removes what was last touched before `older_than_s` (seconds since 1970) and is not in use."""
        for lock_path in self._root.glob("*/*.lock"):
            directory = lock_path.with_suffix("")
            try:
                times_s = [path.stat().st_mtime for path in (lock_path, *directory.glob("*"))]
            except FileNotFoundError:
                continue  # it ends just now
            if max(times_s) >= older_than_s:
                continue
            with lock_path.open("a") as lock:
                if _locked(lock, lock_path):
                    self._remove(directory)

    def _remove(self, directory: Path) -> None:
        shutil.rmtree(directory, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(directory.with_name(f"{directory.name}.lock"))


def _locked(lock: IO[str], path: Path) -> bool:
    """Whether we have the lock, and on the file that others find at `path`."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(lock.fileno()).st_ino == path.stat().st_ino
    except (BlockingIOError, FileNotFoundError):
        return False


def _chunks(source: Source, file: SourceFile, offset: int) -> Generator[bytes, None, None]:
    if offset < file.size_bytes:
        yield from source.read(file, offset)


def _other_bytes(file: SourceFile) -> ServiceError:
    return ServiceError(
        Code.INVALID_ARGUMENT,
        Reason.CHECKSUM_MISMATCH,
        f"{file.path}: the source's bytes are not those that it says they are, and are dropped: import again",
        field="source",
    )
