"""FileUpload against a store that fails at chosen moments."""

import asyncio
from dataclasses import replace

import google_crc32c
import grpc
import pytest

from client import upload
from client.errors import MultiloraError
from client.registry import VersionFile
from client.upload import CHUNK_BYTES, FileUpload, UploadProgress, retrying
from protos.multilora.v1 import adapter_store_pb2 as pb
from services.common.errors import Code, Reason, ServiceError
from tests.unit.client.rpc_failures import lost_end, rpc_error, rpc_error_of

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
BROKEN = rpc_error(UNAVAILABLE, "the connection broke")
CONTENT = bytes(range(256)) * (CHUNK_BYTES // 256) * 3 + b"the end"
FILE = VersionFile("adapter_model.safetensors", len(CONTENT), "sha")


class FakeStore:
    """Takes one file's chunks; breaks the connection after `cuts[i]` chunks of stream i.

    `loses_answer` breaks the stream only once the file is finished; `error` is what a break looks like.
    """

    def __init__(self, cuts=(), *, loses_answer=0, error=BROKEN, path=FILE.path):
        self.path = path
        self.cuts = list(cuts)
        self.loses_answer = loses_answer
        self.error = error
        self.stored = b""
        self.is_finished = False
        self.num_streams = 0

    async def Upload(self, requests):
        self.num_streams += 1
        cut = self.cuts.pop(0) if self.cuts else None
        num_chunks = 0
        async for request in requests:
            assert (request.upload_id, request.path) == ("u1", self.path)
            if num_chunks == cut:
                raise self.error
            assert request.write_offset == len(self.stored)
            assert request.crc32c == google_crc32c.value(request.data)
            self.stored += request.data
            self.is_finished = request.finish
            num_chunks += 1
        if self.loses_answer:
            self.loses_answer -= 1
            raise self.error
        return pb.UploadResponse(persisted_bytes=len(self.stored))

    async def GetUpload(self, request):
        persisted = [pb.PersistedFile(path=self.path, persisted_bytes=len(self.stored))]
        return pb.UploadStatus(upload_id=request.upload_id, persisted=persisted)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(upload, "pause_s", lambda attempt: 0.0)


@pytest.fixture
def directory(tmp_path):
    (tmp_path / FILE.path).write_bytes(CONTENT)
    return tmp_path


def make_upload(store, directory, persisted_bytes=0, progress=upload.ignore_progress):
    return FileUpload(store, "u1", directory, FILE, persisted_bytes, progress)


@pytest.mark.parametrize("cuts", [(), (0,), (1,), (2, 0, 1), (0,) * 7])
async def test_the_bytes_arrive_once_whatever_breaks(directory, cuts):
    store = FakeStore(cuts)
    await make_upload(store, directory).send()
    assert store.stored == CONTENT
    assert store.is_finished
    assert store.num_streams == len(cuts) + 1


async def test_it_starts_at_what_is_persisted(directory):
    store = FakeStore()
    store.stored = CONTENT[:CHUNK_BYTES]
    await make_upload(store, directory, CHUNK_BYTES).send()
    assert store.stored == CONTENT


async def test_a_lost_answer_after_the_last_byte_still_finishes_the_file(directory):
    store = FakeStore(loses_answer=1)
    await make_upload(store, directory).send()
    assert store.stored == CONTENT
    assert store.is_finished
    assert store.num_streams == 2


async def test_a_store_that_stands_elsewhere_is_followed(directory):
    store = FakeStore((0,), error=rpc_error(grpc.StatusCode.OUT_OF_RANGE))
    store.stored = CONTENT[:CHUNK_BYTES]
    await make_upload(store, directory, 0).send()
    assert store.stored == CONTENT


async def test_several_files_are_on_their_way_at_once_and_each_tells_its_own_progress(tmp_path):
    files, seen = [], {}
    for number in range(6):
        (tmp_path / str(number)).write_bytes(CONTENT)
        files.append(replace(FILE, path=str(number)))
    both_here = asyncio.Barrier(2)

    class Meeting(FakeStore):
        async def Upload(self, requests):
            await both_here.wait()
            return await super().Upload(requests)

    def note(progress):
        seen.setdefault(progress.path, []).append(progress.sent_bytes)

    stores = [Meeting(path=file.path) for file in files]
    uploads = [
        FileUpload(store, "u1", tmp_path, file, 0, note) for store, file in zip(stores, files, strict=True)
    ]
    await asyncio.wait_for(upload.send_all(uploads), 10)
    assert [store.stored for store in stores] == [CONTENT] * 6
    assert {path: sent[-1] for path, sent in seen.items()} == {file.path: len(CONTENT) for file in files}
    assert all(sent == sorted(sent) for sent in seen.values())


async def test_one_file_that_is_refused_stops_the_others(tmp_path):
    (tmp_path / FILE.path).write_bytes(CONTENT)
    refusing = FakeStore((0,), error=rpc_error(grpc.StatusCode.NOT_FOUND))

    class Hanging(FakeStore):
        async def Upload(self, requests):
            await asyncio.Event().wait()

    with pytest.raises(MultiloraError, match="NOT_FOUND"):
        await upload.send_all([make_upload(Hanging(), tmp_path), make_upload(refusing, tmp_path)])


async def test_it_gives_up_when_nothing_moves(directory):
    store = FakeStore((0,) * 100)
    with pytest.raises(MultiloraError, match="UNAVAILABLE"):
        await make_upload(store, directory).send()
    assert store.num_streams == 8


async def test_progress_resets_the_count_of_tries(directory):
    store = FakeStore((0,) * 7 + (1,) + (0,) * 7)
    await make_upload(store, directory).send()
    assert store.stored == CONTENT


async def test_a_stream_whose_end_grpc_lost_is_resumed(directory):
    """Written to while the store ends it, a stream fails with INTERNAL and no word of the store's."""
    store = FakeStore((1, 0, 2), error=lost_end())
    await make_upload(store, directory).send()
    assert store.stored == CONTENT
    assert store.is_finished
    assert store.num_streams == 4


async def test_a_defect_of_the_store_is_not_a_lost_end(directory):
    error = rpc_error_of(ServiceError(Code.INTERNAL, Reason.INTERNAL_ERROR, "incident 1"))
    store = FakeStore((1,), error=error)
    with pytest.raises(MultiloraError, match="INTERNAL_ERROR: incident 1"):
        await make_upload(store, directory).send()
    assert store.num_streams == 1


async def test_a_refusal_is_not_tried_again(directory):
    store = FakeStore((1,), error=rpc_error(grpc.StatusCode.INVALID_ARGUMENT))
    with pytest.raises(MultiloraError, match="INVALID_ARGUMENT"):
        await make_upload(store, directory).send()
    assert store.num_streams == 1


async def test_progress_ends_at_the_files_size(directory):
    seen = []
    await make_upload(FakeStore((2,)), directory, progress=seen.append).send()
    assert seen[0] == UploadProgress(FILE.path, 0, len(CONTENT))
    assert seen[-1].sent_bytes == len(CONTENT)


async def test_retrying_asks_again_only_while_unavailable():
    answers = [rpc_error(UNAVAILABLE), rpc_error(UNAVAILABLE), "done"]

    async def call():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert await retrying(call) == "done"
    answers[:] = [rpc_error(grpc.StatusCode.NOT_FOUND, "gone"), "never"]
    with pytest.raises(MultiloraError, match="NOT_FOUND: gone"):
        await retrying(call)
    assert answers == ["never"]
