"""The adapter store as inference sees it: names resolved, files read, the base model registered.

The only module here that knows the store's stubs. Must not know residency or the engine.
"""

import hashlib
import os
import re
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c
import grpc

from protos.multilora.v1 import adapter_store_pb2 as pb
from protos.multilora.v1.adapter_store_pb2_grpc import AdapterStoreServiceStub
from services.common.caller import Caller
from services.common.errors import Code, Reason, ServiceError
from services.inference.adapters.store_access import caller_from, token_error
from services.inference.adapters.store_channel import open_aio_channel, open_channel
from services.inference.adapters.store_errors import corrupt, store_error, store_unavailable
from services.inference.adapters.store_link import StoreLink
from services.inference.model.config import ModelConfig
from services.inference.request import AdapterFile, AdapterKey, ResolvedAdapter

RESOLVE_TIMEOUT_S = 5.0
REGISTER_TIMEOUT_S = 10.0
# A read takes this long at most: a start, and then a rate that any network should give.
READ_START_S = 30.0
READ_BYTES_PER_S = 1 << 20
MAX_REMEMBERED_NAMES = 100_000


class AsyncStoreClient:
    """For the front end's event loop; make it there."""

    def __init__(self, link: StoreLink, base_model: str) -> None:
        self._base_model = base_model
        self._channel = open_aio_channel(link)
        self._stub: Any = AdapterStoreServiceStub(self._channel)
        self._last_known: OrderedDict[str, ResolvedAdapter] = OrderedDict()

    async def resolve(self, name: str) -> ResolvedAdapter:
        """The ACTIVE version that any form of adapter name means now.

        The store is asked each time; while it does not answer, what `name` last meant is taken.
        Raises ServiceError: the store's refusal, BASE_MODEL_MISMATCH, or STORE_UNAVAILABLE.
        """
        try:
            request = pb.ResolveVersionRequest(name=name)
            version = await self._stub.ResolveVersion(request, timeout=RESOLVE_TIMEOUT_S)
        except grpc.RpcError as error:
            return self._stale_or_raise(name, store_error(error))
        if version.base_model != self._base_model:
            self._last_known.pop(name, None)
            raise _other_base_model(version, self._base_model)
        adapter = _resolved(version)
        self._last_known[name] = adapter
        self._last_known.move_to_end(name)
        if len(self._last_known) > MAX_REMEMBERED_NAMES:
            self._last_known.popitem(last=False)
        return adapter

    def _stale_or_raise(self, name: str, error: ServiceError) -> ResolvedAdapter:
        if error.code is not Code.UNAVAILABLE:
            self._last_known.pop(name, None)
            raise error
        if name not in self._last_known:
            raise error
        return self._last_known[name]

    async def register_base_model(self, name: str, digest: str, config: ModelConfig, max_rank: int) -> None:
        """Makes the served model known to the store; the same again is no error. Raises ServiceError."""
        modules = (*config.layer_modules(), *config.model_modules())
        base_model = pb.BaseModel(
            base_model=name,
            digest=digest,
            architecture=config.architecture,
            hidden_size=config.hidden_size,
            num_layers=config.num_layers,
            max_rank=max_rank,
            modules=[
                pb.Module(name=module.name, in_features=module.in_features, out_features=module.out_features)
                for module in modules
            ],
        )
        try:
            request = pb.RegisterBaseModelRequest(base_model=base_model)
            await self._stub.RegisterBaseModel(request, timeout=REGISTER_TIMEOUT_S)
        except grpc.RpcError as error:
            raise store_error(error) from error

    async def authenticate(self, secret: str) -> Caller:
        """Whose token this is. Raises BAD_TOKEN, or STORE_UNAVAILABLE if the store does not say."""
        try:
            request = pb.AuthenticateRequest(secret=secret)
            token = await self._stub.Authenticate(request, timeout=RESOLVE_TIMEOUT_S)
        except grpc.RpcError as error:
            raise token_error(error) from error
        return caller_from(token)

    async def close(self) -> None:
        """Ends the calls that run."""
        await self._channel.close()


class StoreReader:
    """For fetch threads: reads files, any number at once. Thread-safe."""

    def __init__(self, link: StoreLink) -> None:
        self._channel = open_channel(link)
        self._stub: Any = AdapterStoreServiceStub(self._channel)

    def read(self, version_name: str, file: AdapterFile, to: Path, cancelled: Callable[[], bool]) -> None:
        """Writes `file` of that version to `to`, which appears only once it is whole and checked.

        Every chunk is checked against its crc32c and the whole against size and sha256. Raises
        ServiceError (CORRUPT_BLOB, STORE_UNAVAILABLE, the store's refusal) or OSError.
        """
        request = pb.ReadRequest(name=version_name, path=file.path)
        call = self._stub.Read(request, timeout=READ_START_S + file.size_bytes / READ_BYTES_PER_S)
        handle, temporary = tempfile.mkstemp(prefix=f".{to.name}-", dir=to.parent)
        try:
            with os.fdopen(handle, "wb") as output:
                _write_checked(call, version_name, file, output, cancelled)
            os.replace(temporary, to)
        except BaseException as error:
            call.cancel()
            Path(temporary).unlink(missing_ok=True)
            if isinstance(error, grpc.RpcError):
                raise store_error(error) from error
            raise

    def close(self) -> None:
        """Ends the reads that run."""
        self._channel.close()


def _write_checked(
    chunks: Iterable[pb.ReadResponse],
    version_name: str,
    file: AdapterFile,
    output: BinaryIO,
    cancelled: Callable[[], bool],
) -> None:
    digest, num_bytes = hashlib.sha256(), 0
    for chunk in chunks:
        if cancelled():
            raise store_unavailable("this server is stopping")
        if chunk.HasField("crc32c") and google_crc32c.value(chunk.data) != chunk.crc32c:
            raise corrupt(version_name, file.path, f"crc32c differs at byte {num_bytes}")
        num_bytes += len(chunk.data)
        if num_bytes > file.size_bytes:
            raise corrupt(version_name, file.path, f"longer than its {file.size_bytes} bytes")
        digest.update(chunk.data)
        output.write(chunk.data)
    if num_bytes != file.size_bytes or digest.hexdigest() != file.sha256:
        raise corrupt(version_name, file.path, "size or sha256 differs")


def _resolved(version: pb.AdapterVersion) -> ResolvedAdapter:
    if not re.fullmatch(r"[0-9a-f]{64}", version.key):
        raise store_unavailable(f"its key for {version.name} is no sha256: {version.key[:80]!r}")
    return ResolvedAdapter(
        key=AdapterKey(version.key),
        version_name=version.name,
        rank=version.rank,
        files=tuple(AdapterFile(file.path, file.size_bytes, file.sha256) for file in version.files),
    )


def _other_base_model(version: pb.AdapterVersion, base_model: str) -> ServiceError:
    message = f"{version.name} was made for base model {version.base_model!r}; this server has {base_model!r}"
    return ServiceError(Code.FAILED_PRECONDITION, Reason.BASE_MODEL_MISMATCH, message)
