"""Stands for the adapter store: a gRPC server in this process that gives out adapters of local directories.

Answers what inference asks to serve a stream, and nothing else. Must not know what is measured.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import google_crc32c
import grpc

from protos.multilora.v1 import adapter_store_pb2 as pb
from protos.multilora.v1 import adapter_store_pb2_grpc as pb_grpc
from services.inference.request import ResolvedAdapter

CHUNK_BYTES = 1 << 20
NUM_THREADS = 16
HEARTBEAT_S = 5.0


def adapter_name(index: int) -> str:
    """What a request calls adapter number `index`."""
    return f"bench/a{index}"


class DirectoryStore(pb_grpc.AdapterStoreServiceServicer):
    """`adapters`, whose version names are directories, each as version 1 of `adapter_name(index)`."""

    def __init__(self, adapters: Sequence[ResolvedAdapter], base_model: str) -> None:
        self._versions = {adapter_name(i): _version(i, a, base_model) for i, a in enumerate(adapters)}
        self._directories = {
            self._versions[adapter_name(i)].name: Path(adapter.version_name)
            for i, adapter in enumerate(adapters)
        }

    def RegisterBaseModel(self, request: Any, context: grpc.ServicerContext) -> pb.BaseModel:
        """Takes any."""
        registered: pb.BaseModel = request.base_model
        return registered

    def ResolveVersion(self, request: Any, context: grpc.ServicerContext) -> pb.AdapterVersion:
        """By the short name, or the version's own."""
        known = {**self._versions, **{version.name: version for version in self._versions.values()}}
        if request.name not in known:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no adapter {request.name}")
        return known[request.name]

    def Read(self, request: Any, context: grpc.ServicerContext) -> Iterator[pb.ReadResponse]:
        """A file from its beginning."""
        with (self._directories[request.name] / request.path).open("rb") as file:
            while data := file.read(CHUNK_BYTES):
                yield pb.ReadResponse(data=data, crc32c=google_crc32c.value(data))

    def GetTenant(self, request: Any, context: grpc.ServicerContext) -> pb.Tenant:
        """One without quotas, which asks for no signatures."""
        return pb.Tenant(name=request.name)

    def AcquireLease(self, request: Any, context: grpc.ServicerContext) -> pb.Lease:
        """Takes any: nothing is ever deleted here."""
        lease = pb.Lease(lease_id=request.lease_id, holder=request.holder, num_keys=len(request.keys))
        lease.expire_time.FromSeconds(int(time.time()) + max(60, request.ttl_s))
        return lease

    def ReleaseLease(self, request: Any, context: grpc.ServicerContext) -> pb.ReleaseLeaseResponse:
        """Takes any."""
        return pb.ReleaseLeaseResponse()

    def Watch(self, request: Any, context: grpc.ServicerContext) -> Iterator[pb.WatchResponse]:
        """Nothing ever changes: heartbeats, so that names are remembered as they are with a store."""
        ended = threading.Event()
        if not context.add_callback(ended.set):
            return
        while True:
            yield pb.WatchResponse(resume_token="0", caught_up=True)
            if ended.wait(HEARTBEAT_S):
                return


@contextmanager
def serve_directories(adapters: Sequence[ResolvedAdapter], base_model: str) -> Iterator[str]:
    """The address of a DirectoryStore that runs until the end of the block."""
    server = grpc.server(ThreadPoolExecutor(NUM_THREADS), options=[("grpc.so_reuseport", 0)])
    pb_grpc.add_AdapterStoreServiceServicer_to_server(DirectoryStore(adapters, base_model), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def _version(index: int, adapter: ResolvedAdapter, base_model: str) -> pb.AdapterVersion:
    return pb.AdapterVersion(
        name=f"tenants/bench/adapters/a{index}/versions/1",
        version=1,
        key=adapter.key,
        state=pb.ACTIVE,
        files=[
            pb.VersionFile(path=file.path, size_bytes=file.size_bytes, sha256=file.sha256)
            for file in adapter.files
        ],
        rank=adapter.rank,
        base_model=base_model,
    )
