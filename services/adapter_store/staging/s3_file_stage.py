"""One file of an upload on its way into object storage, as one stream sees it.

Bytes are gathered to parts; a part is sent while the next one is gathered, and counts once its row is
written. The hash of the whole goes along, so that the last part makes a blob that is known to be right.
"""

import contextlib
import hashlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass

from services.adapter_store.blobs.s3_errors import MultipartLostError
from services.adapter_store.domain.staged_file import StagedPart
from services.adapter_store.domain.version import VersionFile
from services.adapter_store.hash_state import Sha256
from services.adapter_store.staging.refusals import incomplete, too_long, wrong_bytes, wrong_offset
from services.adapter_store.staging.s3_staged_row import StagedRow, StageParts
from services.common.errors import ServiceError

log = logging.getLogger(__name__)

PARTS_IN_FLIGHT = 2


@dataclass(frozen=True, slots=True)
class _SentPart:
    number: int
    size_bytes: int
    # After this part.
    hash_state: str
    etag: Future[str]


class S3FileStage:
    """Begins where `row` says once bytes come. A stream that was cancelled may leave while it appends."""

    def __init__(self, parts: StageParts, row: StagedRow, file: VersionFile, part_bytes: int) -> None:
        self._blobs, self._bucket, self._threads = parts.blobs, parts.bucket, parts.threads
        self._library = parts.library
        self._row = row
        self._file = file
        self._key = parts.blobs.key(file.sha256)
        self._part_bytes = part_bytes
        self._lock = threading.RLock()
        # None: not begun, or over.
        self._hash: Sha256 | None = None
        self._gathered: list[bytes] = []
        self._gathered_bytes = 0
        self._sent: deque[_SentPart] = deque()
        self._sent_bytes = 0
        self._num_sent = 0

    def append(self, offset: int, data: bytes) -> int:
        """Gathers the bytes, and sends the parts that are full."""
        with self._lock:
            self._begin()
            taken_bytes = self._sent_bytes + self._gathered_bytes
            if offset != taken_bytes:
                raise wrong_offset(offset, taken_bytes)
            if taken_bytes + len(data) > self._file.size_bytes:
                raise too_long(self._file)
            if data:
                self._gathered.append(data)
                self._gathered_bytes += len(data)
            while self._sent and self._sent[0].etag.done():
                self._record_oldest()
            while self._gathered_bytes >= self._part_bytes:
                self._send(self._take(self._part_bytes))
            return taken_bytes + len(data)

    def persisted_bytes(self) -> int:
        """Waits for the parts in flight, and puts what is gathered beside them as a tail."""
        with self._lock:
            if self._hash is None:
                self._row.read()
            else:
                self._record_all()
                with self._over_if_it_fails():
                    if self._gathered_bytes:
                        self._row.put_tail(b"".join(self._gathered))
            return self._row.now.persisted_bytes

    @contextlib.contextmanager
    def stored(self, before_put: Callable[[], None]) -> Iterator[None]:
        """Makes the blob's object: of the parts, or of the gathered bytes if there is none."""
        with self._lock:
            self._begin()
            if self._sent_bytes + self._gathered_bytes != self._file.size_bytes:
                raise incomplete(self._file, self.persisted_bytes())
            rest = b"".join(self._gathered)
            if self._num_sent:
                self._complete(rest, before_put)
            else:
                self._check(hashlib.sha256(rest).hexdigest())
                before_put()
                self._blobs.put(self._file.sha256, rest)
            yield
            self._row.forget()
            self._end()

    def leave(self) -> None:
        """Keeps what was taken; a stream that is not begun, or over, has nothing."""
        with self._lock:
            if self._hash is None:
                return
            try:
                self.persisted_bytes()
            except FileNotFoundError:
                log.debug("the upload of %s is over", self._file.path)
            except ServiceError as error:
                log.info("the end of a stream into %s is not kept: %s", self._file.path, error)
            finally:
                self._end()

    def _begin(self) -> None:
        if self._hash is not None:
            return
        self._row.read()
        tail = self._row.read_tail()
        now = self._row.now
        self._num_sent, self._sent_bytes = len(now.parts), now.parts_bytes
        self._gathered, self._gathered_bytes = [tail] if tail else [], len(tail)
        self._hash = Sha256(self._library, now.hash_state, now.parts_bytes)

    def _end(self) -> None:
        """Lets go of everything; parts that are still being sent do not count."""
        self._hash = None
        self._gathered, self._gathered_bytes = [], 0
        while self._sent:
            self._sent.popleft().etag.cancel()

    def _take(self, num_bytes: int) -> bytes:
        gathered = b"".join(self._gathered)
        rest = gathered[num_bytes:]
        self._gathered, self._gathered_bytes = [rest] if rest else [], len(rest)
        return gathered[:num_bytes] if rest else gathered

    def _send(self, part: bytes) -> None:
        assert self._hash is not None, "begun"
        while len(self._sent) >= PARTS_IN_FLIGHT:
            self._record_oldest()
        with self._over_if_it_fails():
            multipart_id = self._row.start_multipart()
        self._hash.update(part)
        self._num_sent += 1
        self._sent_bytes += len(part)
        etag = self._threads.submit(self._bucket.put_part, self._key, multipart_id, self._num_sent, part)
        self._sent.append(_SentPart(self._num_sent, len(part), self._hash.state(), etag))

    def _record_all(self) -> None:
        while self._sent:
            self._record_oldest()

    def _record_oldest(self) -> None:
        sent = self._sent.popleft()
        with self._over_if_it_fails():
            part = StagedPart(sent.number, sent.size_bytes, sent.etag.result())
            self._row.add_part(part, sent.hash_state)

    @contextlib.contextmanager
    def _over_if_it_fails(self) -> Iterator[None]:
        """One part that fails makes void what was taken after it: whoever goes on starts from the row."""
        try:
            yield
        except MultipartLostError as error:
            self._end()
            raise self._row.restart() from error
        except BaseException:
            self._end()
            raise

    def _complete(self, rest: bytes, before_put: Callable[[], None]) -> None:
        assert self._hash is not None, "begun"
        self._hash.update(rest)
        digest = self._hash.hexdigest()
        last = self._num_sent + 1
        self._record_all()
        parts = self._row.now.parts
        with self._over_if_it_fails():
            if rest:
                multipart_id = self._row.now.multipart_id
                etag = self._bucket.put_part(self._key, multipart_id, last, rest)
                parts = (*parts, StagedPart(last, len(rest), etag))
        self._check(digest)
        before_put()
        try:
            self._row.complete(parts)
        except MultipartLostError as error:
            # An earlier try may have got through, and its answer not.
            if not self._blobs.is_intact(self._file.sha256, self._file.size_bytes):
                self._end()
                raise self._row.restart() from error
        self._blobs.note_put(self._file.sha256)

    def _check(self, digest: str) -> None:
        if digest != self._file.sha256:
            self._row.drop()
            self._end()
            raise wrong_bytes(self._file)
