"""Sends a version's files to the store and picks up where a broken connection left off.

Knows nothing of adapters, aliases or base models: only an upload id and bytes.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

import google_crc32c
import grpc

from client.errors import from_rpc_error
from client.registry import VersionFile
from protos.multilora.v1 import adapter_store_pb2 as pb
from protos.multilora.v1.adapter_store_pb2_grpc import AdapterStoreServiceStub

CHUNK_BYTES = 1 << 20

# Tries without a byte of progress before giving up, with pauses of 0.1, 0.2, 0.4 ... 3.2 s: about 9 s in all.
_MAX_TRIES = 8
_FILES_AT_ONCE = 4
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 3.2

# CANCELLED, which nobody here did: a store that stops says so of calls that come too late for it.
NO_ANSWER = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class UploadProgress:
    """How much of one file the store has, or has been sent."""

    path: str
    sent_bytes: int
    size_bytes: int


Progress = Callable[[UploadProgress], None]


def ignore_progress(_: UploadProgress) -> None:
    """For callers that do not watch."""


async def retrying(call: Callable[[], Awaitable[R]]) -> R:
    """`call()`, again while the store does not answer: for calls that may be made twice."""
    for attempt in range(_MAX_TRIES):
        try:
            return await call()
        except grpc.aio.AioRpcError as error:
            if error.code() not in NO_ANSWER or attempt == _MAX_TRIES - 1:
                raise from_rpc_error(error) from None
        await asyncio.sleep(pause_s(attempt))
    raise AssertionError("unreachable: the last try returns or raises")


def pause_s(attempt: int) -> float:
    """How long to wait after try number `attempt` (from 0) failed."""
    return float(min(_FIRST_PAUSE_S * 2**attempt, _LONGEST_PAUSE_S))


class FileUpload:
    """One file on its way; `persisted_bytes` is what the store confirmed."""

    def __init__(
        self,
        stub: AdapterStoreServiceStub,
        upload_id: str,
        directory: Path,
        file: VersionFile,
        persisted_bytes: int,
        progress: Progress,
    ) -> None:
        self._stub = stub
        self._upload_id = upload_id
        self._path = directory / file.path
        self._file = file
        self._progress = progress
        self.persisted_bytes = persisted_bytes

    @property
    def is_whole(self) -> bool:
        """Whether the store has every byte."""
        return self.persisted_bytes >= self._file.size_bytes

    async def send(self) -> None:
        """Sends what the store lacks, resuming when the connection breaks. Raises MultiloraError.

        A file whose bytes are all there is still declared finished: the store may have been stopped between.
        """
        attempt = 0
        before_bytes = self.persisted_bytes
        while (error := await self._send_once()) is not None:
            attempt = 0 if self.persisted_bytes > before_bytes else attempt + 1
            if not _may_resume(error) or attempt == _MAX_TRIES:
                raise from_rpc_error(error)
            before_bytes = self.persisted_bytes
            await asyncio.sleep(pause_s(attempt))
        self._report(self._file.size_bytes)

    async def _send_once(self) -> grpc.aio.AioRpcError | None:
        """One stream from the persisted offset; after a failure asks the store where it stands."""
        self._report(self.persisted_bytes)
        with self._path.open("rb") as file:
            file.seek(self.persisted_bytes)
            try:
                response = await self._stub.Upload(self._messages(file))
                self.persisted_bytes = response.persisted_bytes
                return None
            except grpc.aio.AioRpcError as error:
                failure = error
        if _may_resume(failure):
            self.persisted_bytes = await self._ask_persisted()
        return failure

    async def _messages(self, file: BinaryIO) -> AsyncIterator[pb.UploadRequest]:
        offset, is_finished = file.tell(), False
        while not is_finished:
            data = await asyncio.to_thread(file.read, CHUNK_BYTES)
            end = offset + len(data)
            # A file that shrank since it was hashed ends early; the store says so by size or sha256.
            is_finished = not data or end >= self._file.size_bytes
            yield pb.UploadRequest(
                upload_id=self._upload_id,
                path=self._file.path,
                write_offset=offset,
                data=data,
                crc32c=google_crc32c.value(data),
                finish=is_finished,
            )
            self._report(end)
            offset = end

    async def _ask_persisted(self) -> int:
        request = pb.GetUploadRequest(upload_id=self._upload_id)
        status = await retrying(lambda: self._stub.GetUpload(request))
        return persisted_by_path(status.persisted).get(self._file.path, 0)

    def _report(self, sent_bytes: int) -> None:
        self._progress(UploadProgress(self._file.path, sent_bytes, self._file.size_bytes))


async def send_all(uploads: Sequence[FileUpload]) -> None:
    """Sends several files at once, a few at a time. Raises MultiloraError; then the others stop too."""
    room = asyncio.Semaphore(_FILES_AT_ONCE)

    async def send(upload: FileUpload) -> None:
        async with room:
            await upload.send()

    tasks = [asyncio.create_task(send(upload)) for upload in uploads]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def persisted_by_path(persisted: Iterable[pb.PersistedFile]) -> dict[str, int]:
    """Bytes that the store has, by file."""
    return {each.path: each.persisted_bytes for each in persisted}


def _may_resume(error: grpc.aio.AioRpcError) -> bool:
    if error.code() is grpc.StatusCode.INTERNAL:
        # gRPC's own word, without details, for a stream that ended while it was being written to: how it
        # ended is lost. If the store refused the file, it says so again.
        return not from_rpc_error(error).reason
    return error.code() in (*NO_ANSWER, grpc.StatusCode.OUT_OF_RANGE)
