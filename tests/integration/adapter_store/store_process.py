"""The adapter store as a real process on a free loopback port, and a small client of it."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from protos.multilora.v1 import adapter_store_pb2 as pb
from protos.multilora.v1 import adapter_store_pb2_grpc as pb_grpc
from services.adapter_store.servicer import wire
from tests.adapter_files import BASE_MODEL, declared

CHUNK_BYTES = 64 << 10


class StoreProcess:
    """One `python -m services.adapter_store`; its stub as soon as it says that it listens."""

    def __init__(self, data_dir: Path, log: Path, *flags: str) -> None:
        command = [sys.executable, "-m", "services.adapter_store", "--data-dir", str(data_dir)]
        with log.open("ab") as sink:
            self.process = subprocess.Popen(
                [*command, "--listen", "127.0.0.1:0", *flags], stdout=subprocess.PIPE, stderr=sink, text=True
            )
        assert self.process.stdout is not None
        self.ready_line = self.process.stdout.readline()
        assert self.ready_line, f"no ready line:\n{log.read_text()}"
        self.address = self.ready_line.split()[-1]
        self.channel = grpc.insecure_channel(self.address)
        self.stub = pb_grpc.AdapterStoreServiceStub(self.channel)

    def kill(self) -> None:
        """SIGKILL, and waits until it is gone."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> tuple[int, str]:
        """SIGTERM; the exit status and what else it printed."""
        self.process.terminate()
        rest, _ = self.process.communicate(timeout=30)
        return self.process.returncode, rest

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.channel.close()
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(timeout=30)
        assert self.process.stdout is not None
        self.process.stdout.close()


def register(stub: pb_grpc.AdapterStoreServiceStub, name: str = "acme/support") -> None:
    """The tiny base model, and an adapter of it."""
    stub.RegisterBaseModel(pb.RegisterBaseModelRequest(base_model=wire.base_model(BASE_MODEL)))
    stub.CreateAdapter(pb.CreateAdapterRequest(adapter=pb.Adapter(name=name, base_model=BASE_MODEL.name)))


def chunks(upload_id: str, path: str, data: bytes, offset: int) -> Iterator[pb.UploadRequest]:
    """The messages that send `data` from `offset` to its end."""
    yield pb.UploadRequest(upload_id=upload_id, path=path, write_offset=offset, finish=offset == len(data))
    while offset < len(data):
        part = data[offset : offset + CHUNK_BYTES]
        finish = offset + len(part) == len(data)
        yield pb.UploadRequest(write_offset=offset, data=part, finish=finish)
        offset += len(part)


def push(
    stub: pb_grpc.AdapterStoreServiceStub,
    name: str,
    files: Mapping[str, bytes],
    request_id: str = "",
    before_message: Callable[[], None] = lambda: None,
) -> pb.AdapterVersion:
    """Starts or resumes an upload of `files`, and finishes it; calls `before_message` before each message."""

    def noted(messages: Iterator[pb.UploadRequest]) -> Iterator[pb.UploadRequest]:
        for message in messages:
            before_message()
            yield message

    before_message()
    started = stub.StartUpload(
        pb.StartUploadRequest(parent=name, files=wire.files(declared(files)), request_id=request_id)
    )
    for file in started.persisted:
        data = files[file.path]
        stub.Upload(noted(chunks(started.upload_id, file.path, data, file.persisted_bytes)))
    before_message()
    return stub.FinishUpload(pb.FinishUploadRequest(upload_id=started.upload_id))


def read(stub: pb_grpc.AdapterStoreServiceStub, name: str, path: str) -> bytes:
    """A whole file."""
    return b"".join(message.data for message in stub.Read(pb.ReadRequest(name=name, path=path)))


def is_lost_end(error: grpc.aio.AioRpcError) -> bool:
    """Whether gRPC lost how the server ended a call: aio's own words where a write comes after that end."""
    return (
        rpc_status.from_call(error) is None
        and error.code() is grpc.StatusCode.INTERNAL
        and error.debug_error_string().startswith('Failed "execute_batch": (')
        and "SendMessageOperation" in error.debug_error_string()
    )


def error_info(error: grpc.RpcError) -> error_details_pb2.ErrorInfo:
    """The one ErrorInfo of an error."""
    status = rpc_status.from_call(error)
    found = [detail for detail in status.details if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR)]
    assert len(found) == 1
    info = error_details_pb2.ErrorInfo()
    found[0].Unpack(info)
    assert info.domain == "multilora"
    return info
