"""Blobs as objects of an S3 bucket: `PREFIX/blobs/ab/cd/<sha256>`, each only ever put once it is verified.

Must not know uploads; what is on its way in is staging's.
"""

import contextlib
import hashlib
import re
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO, cast

from services.adapter_store.blobs.blob_store import CHUNK_BYTES, corrupt
from services.adapter_store.blobs.s3_bucket import Bucket, ObjectInfo
from services.adapter_store.blobs.s3_errors import ObjectMissingError
from services.adapter_store.domain.blob import ReadUrl, StoredBlob
from services.adapter_store.durable import make_dirs

_MAX_REMEMBERED = 65536


class S3Blobs:
    """Blobs below `prefix` of `bucket`. `spool_dir` is on a disk with room for the blobs that are open.

    Read URLs are good for `url_expiry_s`; 0 gives none. `now` is the clock.
    """

    def __init__(
        self,
        bucket: Bucket,
        prefix: str,
        spool_dir: Path,
        url_expiry_s: int,
        now: Callable[[], datetime],
    ) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}blobs/"
        self._spool_dir = spool_dir
        self._url_expiry_s = url_expiry_s
        self._now = now
        make_dirs(spool_dir)
        # What this process knows to be right, by digest; None where it has put the bytes itself and not
        # looked since.
        self._checked: dict[str, ObjectInfo | None] = {}
        self._checked_lock = threading.Lock()

    @property
    def prefix(self) -> str:
        """Of every blob's key."""
        return self._prefix

    def key(self, sha256: str) -> str:
        """The blob's key in the bucket."""
        return f"{self._prefix}{sha256[:2]}/{sha256[2:4]}/{sha256}"

    def put(self, sha256: str, data: bytes) -> None:
        """Stores verified bytes; durable when it returns. Replaces what was there."""
        self._bucket.put(self.key(sha256), data)
        self.note_put(sha256)

    def note_put(self, sha256: str) -> None:
        """Verified bytes have been made this blob's object."""
        self._remember(sha256, None)

    def is_intact(self, sha256: str, size_bytes: int) -> bool:
        """Reads the whole blob the first time in this process; then only if the object changed."""
        found = self._bucket.info(self.key(sha256))
        if found is None or found.size_bytes != size_bytes:
            return False
        if sha256 in self._checked and self._checked[sha256] in (found, None):
            self._remember(sha256, found)
            return True
        digest = hashlib.sha256()
        try:
            for chunk in self._bucket.chunks(self.key(sha256), 0, size_bytes, CHUNK_BYTES):
                digest.update(chunk)
        except ObjectMissingError:
            return False
        if digest.hexdigest() != sha256:
            return False
        self._remember(sha256, found)
        return True

    def open(self, sha256: str) -> BinaryIO:
        """A copy on the local disk that goes when it is closed; CORRUPT_BLOB if its bytes are wrong."""
        found = self._bucket.info(self.key(sha256))
        if found is None:
            raise corrupt(sha256, "is missing")
        with contextlib.ExitStack() as on_failure:
            file = on_failure.enter_context(tempfile.TemporaryFile(dir=self._spool_dir))
            digest = hashlib.sha256()
            for chunk in self.chunks(sha256, 0, found.size_bytes):
                digest.update(chunk)
                file.write(chunk)
            if digest.hexdigest() != sha256:
                raise corrupt(sha256, "does not have the bytes that were uploaded")
            file.seek(0)
            on_failure.pop_all()
            return cast(BinaryIO, file)

    def chunks(self, sha256: str, offset: int, length: int) -> Generator[bytes, None, None]:
        """Bytes of the blob's object."""
        try:
            yield from self._bucket.chunks(self.key(sha256), offset, length, CHUNK_BYTES)
        except ObjectMissingError as error:
            raise corrupt(sha256, "is missing") from error

    def read_url(self, sha256: str) -> ReadUrl | None:
        """A signed URL of the object."""
        if not self._url_expiry_s:
            return None
        # The moment is taken first: the URL is good for a little longer than is said.
        expire_time = self._now() + timedelta(seconds=self._url_expiry_s)
        return ReadUrl(self._bucket.read_url(self.key(sha256), self._url_expiry_s), expire_time)

    def entries(self) -> Iterator[StoredBlob]:
        """Every blob, by digest in ascending order."""
        for found in self._bucket.list(self._prefix):
            sha256 = found.key.rpartition("/")[2]
            if re.fullmatch(r"[0-9a-f]{64}", sha256) and found.key == self.key(sha256):
                yield StoredBlob(sha256, found.size_bytes, found.modify_time)

    def has(self, sha256: str) -> bool:
        """Whether the blob's object is there."""
        return self._bucket.info(self.key(sha256)) is not None

    def delete(self, sha256: str) -> None:
        """Removes the blob's object."""
        with self._checked_lock:
            self._checked.pop(sha256, None)
        self._bucket.remove(self.key(sha256))

    def clean(self) -> None:
        """Nothing: an object is there whole or not at all, and other replicas use the bucket."""

    def leftovers(self) -> list[str]:
        """Nothing."""
        return []

    def _remember(self, sha256: str, found: ObjectInfo | None) -> None:
        with self._checked_lock:
            if len(self._checked) >= _MAX_REMEMBERED:
                self._checked.clear()
            self._checked[sha256] = found
