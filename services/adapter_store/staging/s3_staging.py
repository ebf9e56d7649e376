"""Bytes of uploads on their way into object storage, where any replica can go on with them.

A file's whole parts lie in a multipart upload of its blob's key, which nobody can see before it is
completed; what is too short for a part lies beside, as a tail. Rows say which parts count. Memory is
bounded: a few parts for each open stream.
"""

import ctypes
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from services.adapter_store.blobs.s3_blobs import S3Blobs
from services.adapter_store.blobs.s3_bucket import Bucket
from services.adapter_store.domain.staged_file import StagedFile
from services.adapter_store.domain.upload import Upload
from services.adapter_store.domain.version import VersionFile
from services.adapter_store.metadata import Database
from services.adapter_store.staging.s3_file_stage import PARTS_IN_FLIGHT, S3FileStage
from services.adapter_store.staging.s3_staged_row import StagedRow, StageParts
from services.common.errors import ServiceError

log = logging.getLogger(__name__)

PART_BYTES = 8 << 20
_MAX_PARTS = 10_000
# The parts in flight, the one that is being filled, and the same once more while it is put together.
_PARTS_IN_MEMORY = PARTS_IN_FLIGHT + 2
# Fewer than the threads that serve calls: streams that wait for object storage must leave some free.
_MOST_STREAMS = 24


@dataclass(frozen=True, slots=True)
class S3StagingSettings:
    """`memory_bytes` for the streams together. `part_bytes` is a multiple of 64."""

    prefix: str
    memory_bytes: int
    part_bytes: int = PART_BYTES


class S3Staging:
    """Files of uploads below `prefix` + `staging/`, and in multipart uploads of `blobs`."""

    def __init__(
        self,
        database: Database,
        bucket: Bucket,
        blobs: S3Blobs,
        library: ctypes.CDLL,
        settings: S3StagingSettings,
        now: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._bucket = bucket
        self._blobs = blobs
        self._prefix = f"{settings.prefix}staging/"
        self._part_bytes = settings.part_bytes
        per_stream_bytes = _PARTS_IN_MEMORY * settings.part_bytes
        self.max_streams = min(max(1, settings.memory_bytes // per_stream_bytes), _MOST_STREAMS)
        self._threads = ThreadPoolExecutor(self.max_streams * PARTS_IN_FLIGHT, "part")
        self._parts = StageParts(database, bucket, blobs, library, self._threads, now)

    def close(self) -> None:
        """Waits for the parts that are being sent."""
        self._threads.shutdown()

    def create(self, upload_id: str, positions: list[int]) -> None:
        """Nothing: a file takes room once bytes of it come."""

    def open(self, upload_id: str, position: int, file: VersionFile) -> S3FileStage:
        """Where the bytes of one file go."""
        # The same for the same file at every replica: parts of another size would not fit together.
        part_bytes = self._part_bytes
        while file.size_bytes > part_bytes * _MAX_PARTS:
            part_bytes *= 2
        row = StagedRow(self._parts, upload_id, position, file, self._tail_prefix(upload_id, position))
        return S3FileStage(self._parts, row, file, part_bytes)

    def discard(self, upload_id: str) -> None:
        """Drops parts, tails and rows; what object storage cannot drop now goes with the next sweep."""
        with self._database.read() as uow:
            upload = uow.uploads.get(upload_id)
            staged = {p: uow.staged_files.get(upload_id, p) for p in uow.staged_files.positions(upload_id)}
        for position, found in staged.items():
            if upload is None or found is None:
                continue
            try:
                self._drop(upload, position, found)
            except ServiceError as error:
                log.warning("upload %s: what is staged stays for now: %s", upload_id, error.message)
                return

    def recover(self, open_uploads: Iterable[Upload]) -> None:
        """Nothing: another replica may be using whatever is there."""

    def problems(self, open_uploads: Iterable[Upload]) -> list[str]:
        """What is wrong, one line each."""
        with self._database.read() as uow:
            problems = [
                f"upload {upload_id} is staged but not open: CollectGarbage drops it"
                for upload_id in uow.staged_files.of_ended_uploads()
            ]
            for upload in open_uploads:
                for position in uow.staged_files.positions(upload.id):
                    found, file = uow.staged_files.get(upload.id, position), upload.files[position]
                    if found is not None and not _fits(found, file):
                        problems.append(
                            f"upload {upload.id}: {file.path} has other bytes staged than it says"
                        )
        return problems

    def last_append(self, upload_id: str) -> datetime:
        """When bytes of the upload last became durable; long ago if nothing of it is staged."""
        with self._database.read() as uow:
            return uow.staged_files.last_update(upload_id) or datetime.fromtimestamp(0, UTC)

    def sweep(self, older_than: datetime) -> None:
        """Drops what ended uploads left, and multipart uploads and tails that no row knows."""
        with self._database.read() as uow:
            ended = uow.staged_files.of_ended_uploads()
        for upload_id in ended:
            self.discard(upload_id)
        for key, multipart_id, begin_time in self._bucket.multiparts(self._blobs.prefix):
            if begin_time < older_than and not self._knows_multipart(multipart_id):
                self._bucket.abort_multipart(key, multipart_id)
        for found in self._bucket.list(self._prefix):
            if found.modify_time < older_than and not self._knows_tail(found.key):
                self._bucket.remove(found.key)

    def _drop(self, upload: Upload, position: int, found: StagedFile) -> None:
        if found.multipart_id:
            key = self._blobs.key(upload.files[position].sha256)
            self._bucket.abort_multipart(key, found.multipart_id)
        if found.tail_sha256:
            self._bucket.remove(self._tail_prefix(upload.id, position) + found.tail_sha256)
        with self._database.write() as uow:
            uow.staged_files.delete(upload.id, position, found.multipart_id)
            uow.commit()

    def _tail_prefix(self, upload_id: str, position: int) -> str:
        return f"{self._prefix}{upload_id}/{position}/"

    def _knows_multipart(self, multipart_id: str) -> bool:
        with self._database.read() as uow:
            return uow.staged_files.knows_multipart(multipart_id)

    def _knows_tail(self, key: str) -> bool:
        names = key.removeprefix(self._prefix).split("/")
        if len(names) != 3 or not names[1].isdecimal():
            return False
        with self._database.read() as uow:
            return uow.staged_files.knows_tail(names[0], int(names[1]), names[2])


def _fits(found: StagedFile, file: VersionFile) -> bool:
    numbers = [part.number for part in found.parts]
    return (
        numbers == [*range(1, len(numbers) + 1)]
        and found.parts_bytes == sum(part.size_bytes for part in found.parts)
        and found.persisted_bytes <= file.size_bytes
    )
