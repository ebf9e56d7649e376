"""The two RPCs that move bytes: Upload takes a stream, Read gives one."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Generator

import google_crc32c

from protos.multilora.v1 import adapter_store_pb2 as pb
from services.adapter_store.blobs import BlobStore, read_range
from services.adapter_store.catalog import Versions
from services.adapter_store.domain.actor import Actor
from services.adapter_store.domain.names import parse_reference
from services.adapter_store.servicer.upload_room import Pace, UploadRoom
from services.adapter_store.uploads import FileTarget, Intake
from services.common.errors import ServiceError, invalid_field


async def take(
    intake: Intake, room: UploadRoom, requests: AsyncIterator[pb.UploadRequest], actor: Actor
) -> int:
    """Appends a stream's chunks to one file; returns its durable bytes.

    What arrived before the stream broke stays. Waits for a place in `room` before it reads on.
    """
    first = await anext(requests, None)
    if first is None:
        raise invalid_field("upload_id", "the stream had no message: name the upload and file in the first")
    target = await asyncio.to_thread(intake.open_file, first.upload_id, first.path)
    async with room.place(target.upload.adapter.tenant) as pace:
        try:
            return await _take_into(intake, target, pace, first, requests, actor)
        finally:
            await asyncio.to_thread(intake.leave, target)


async def _take_into(
    intake: Intake,
    target: FileTarget,
    pace: Pace,
    first: pb.UploadRequest,
    rest: AsyncIterator[pb.UploadRequest],
    actor: Actor,
) -> int:
    request: pb.UploadRequest | None = first
    while request is not None:
        _check_same(target, request)
        crc32c = request.crc32c if request.HasField("crc32c") else None
        await asyncio.to_thread(intake.append, target, request.write_offset, request.data, crc32c)
        if request.finish:
            return await asyncio.to_thread(intake.finish_file, target, actor)
        pace.note(len(request.data))
        request = await pace.next(rest)
    return await asyncio.to_thread(intake.persisted, target)


async def give(
    versions: Versions, blobs: BlobStore, request: pb.ReadRequest, tenant: str | None = None
) -> AsyncGenerator[pb.ReadResponse, None]:
    """One file's bytes in chunks of at most 1 MiB; the first message has the whole file's size and sha256.

    By key only what `tenant` has, or anybody if it is None.
    """
    file = await asyncio.to_thread(
        versions.readable_file,
        request.key if request.HasField("key") else parse_reference(request.name, "name"),
        request.path,
        tenant,
    )
    limit = _limit(request, file.size_bytes)
    chunks = read_range(blobs, file.sha256, file.size_bytes, request.read_offset, limit)
    # The next message is made while this one is sent.
    ahead = asyncio.ensure_future(asyncio.to_thread(_next, chunks))
    try:
        first = await ahead or pb.ReadResponse(data=b"", crc32c=0)
        first.size_bytes, first.sha256 = file.size_bytes, file.sha256
        response: pb.ReadResponse | None = first
        while response is not None:
            ahead = asyncio.ensure_future(asyncio.to_thread(_next, chunks))
            yield response
            response = await ahead
    finally:
        # A generator cannot be closed while a thread is in it.
        await asyncio.wait([ahead])
        chunks.close()


def _check_same(target: FileTarget, request: pb.UploadRequest) -> None:
    for field, sent, first in (
        ("upload_id", request.upload_id, target.upload.id),
        ("path", request.path, target.file.path),
    ):
        if sent and sent != first:
            raise invalid_field(field, "changed within the stream: one stream carries one file, open another")


def _limit(request: pb.ReadRequest, size_bytes: int) -> int:
    if not 0 <= request.read_offset <= size_bytes:
        raise _out_of_file("read_offset", request.read_offset, size_bytes)
    if request.read_limit < 0:
        raise _out_of_file("read_limit", request.read_limit, size_bytes)
    rest = size_bytes - request.read_offset
    return min(request.read_limit, rest) if request.read_limit else rest


def _out_of_file(field: str, value: int, size_bytes: int) -> ServiceError:
    return invalid_field(field, f"is {value}: the file has {size_bytes} bytes; stay within")


def _next(chunks: Generator[bytes, None, None]) -> pb.ReadResponse | None:
    chunk = next(chunks, None)
    return None if chunk is None else pb.ReadResponse(data=chunk, crc32c=google_crc32c.value(chunk))
