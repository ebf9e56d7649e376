"""The adapter store as inference sees it: names resolved, the base model registered.

With `store_reader` the only module here that knows the store's stubs. Must not know residency or the engine.
"""

import re
from collections import OrderedDict
from typing import Any

import grpc

from protos.multilora.v1 import adapter_store_pb2 as pb
from protos.multilora.v1.adapter_store_pb2_grpc import AdapterStoreServiceStub
from services.common.caller import Caller
from services.common.errors import Code, Reason, ServiceError
from services.inference.adapters.store_access import caller_from, token_error
from services.inference.adapters.store_channel import open_aio_channel
from services.inference.adapters.store_errors import store_error, store_unavailable
from services.inference.adapters.store_link import StoreLink
from services.inference.model.config import ModelConfig
from services.inference.request import AdapterFile, AdapterKey, ResolvedAdapter

RESOLVE_TIMEOUT_S = 5.0
REGISTER_TIMEOUT_S = 10.0
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
