"""The adapter store as inference sees it: names resolved, the base model registered.

With `store_reader` and `store_watch` the only module here that knows the store's stubs. Must not know
residency or the engine.
"""

import logging
from collections.abc import Sequence
from typing import Any

import grpc
from google.protobuf.message import Message

from protos.multilora.v1 import adapter_store_pb2 as pb
from protos.multilora.v1.adapter_store_pb2_grpc import AdapterStoreServiceStub
from services.common.caller import Caller
from services.common.errors import Code, Reason, ServiceError
from services.common.manifest_signature import Signature
from services.inference.adapter_name import AdapterReference, parse_reference
from services.inference.adapters.known_names import KnownNames, Question
from services.inference.adapters.store_access import caller_from, tenant_from, token_error
from services.inference.adapters.store_channel import open_aio_channel
from services.inference.adapters.store_errors import corrupt, store_error
from services.inference.adapters.store_link import StoreLink
from services.inference.adapters.store_silence import StoreSilence
from services.inference.adapters.store_watch import ChangeListener, StoreWatch
from services.inference.model.config import ModelConfig
from services.inference.request import AdapterFile, AdapterKey, ResolvedAdapter, adapter_key
from services.inference.resolution import Resolution, ShadowTarget, StoreStats
from services.inference.tenant_directory import TenantSettings

log = logging.getLogger(__name__)

RESOLVE_TIMEOUT_S = 5.0
REGISTER_TIMEOUT_S = 10.0
LEASE_TIMEOUT_S = 10.0


class AsyncStoreClient:
    """For the front end's event loop; make it there. `watch` must run for names to be remembered."""

    def __init__(self, link: StoreLink, base_model: str, timeout_s: float = RESOLVE_TIMEOUT_S) -> None:
        self._base_model = base_model
        self._timeout_s = timeout_s
        self._silence = StoreSilence()
        self._channel = open_aio_channel(link)
        self._stub: Any = AdapterStoreServiceStub(self._channel)
        self._names = KnownNames()

    async def watch(self, listeners: Sequence[ChangeListener] = ()) -> None:
        """Hears the store's changes until it is cancelled, through every break of the connection.

        `listeners` hear them too.
        """
        await StoreWatch(self._stub, self._names, listeners).run()

    async def resolve(self, name: str, split_key: str = "") -> Resolution:
        """The ACTIVE version that any form of adapter name means now, for requests with this `split_key`.

        Answered from memory while the store's changes are heard. Else the store is asked each time, and only
        while it does not answer, what `name` last meant is taken: at once while it is silent.
        Raises ServiceError: the store's refusal, BASE_MODEL_MISMATCH, or STORE_UNAVAILABLE.
        """
        reference = parse_reference(name)
        assert reference is not None, "admission has checked the name"
        found = self._names.find(reference, split_key)
        if found is None and self._silence.is_silent:
            found = self._names.recall(reference, split_key)
        return found if found is not None else await self._ask(name, reference, split_key)

    async def _ask(self, name: str, reference: AdapterReference, split_key: str) -> Resolution:
        question = self._names.ask(reference)
        try:
            request = pb.ResolveVersionRequest(name=name, split_key=split_key)
            version = await self._asked(
                self._stub.ResolveVersion, request, self._names.remembers(reference, split_key)
            )
            resolution = self._checked(version)
        except grpc.RpcError as rpc_error:
            return self._stale_or_raise(question, split_key, store_error(rpc_error))
        except ServiceError as error:
            return self._stale_or_raise(question, split_key, error)
        except BaseException:
            self._names.give_up(question)
            raise
        self._names.answer(question, version.version, resolution)
        return resolution

    async def _asked(self, call: Any, request: Message, is_known: bool) -> Any:
        return await self._silence.ask(lambda: call(request, timeout=self._timeout_s), is_known=is_known)

    def _stale_or_raise(self, question: Question, split_key: str, error: ServiceError) -> Resolution:
        if error.code is not Code.UNAVAILABLE:
            self._names.refuse(question)
            raise error
        stale = self._names.fall_back(question, split_key)
        if stale is None:
            raise error
        return stale

    def _checked(self, version: pb.AdapterVersion) -> Resolution:
        if version.base_model != self._base_model:
            raise _other_base_model(version, self._base_model)
        targets = tuple((target.version, target.weight) for target in version.targets)
        shadow = None
        if version.HasField("shadow"):
            adapter_name = version.name.partition("/versions/")[0]
            shadow = ShadowTarget(
                f"{adapter_name}/versions/{version.shadow.version}", version.shadow.sample_rate
            )
        return Resolution(_resolved(version), targets, shadow)

    def stats(self) -> StoreStats:
        """How it stands with the store."""
        return self._names.stats()

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

    async def authenticate(self, secret: str, *, is_known: bool = False) -> Caller:
        """Whose token this is. Raises BAD_TOKEN, or STORE_UNAVAILABLE if the store does not say.

        The latter at once while the store is silent, if that `is_known` from before.
        """
        try:
            request = pb.AuthenticateRequest(secret=secret)
            token = await self._asked(self._stub.Authenticate, request, is_known)
        except grpc.RpcError as error:
            raise token_error(error) from error
        return caller_from(token)

    async def tenant(self, name: str, *, is_known: bool = False) -> TenantSettings:
        """What the store says of the tenant. Raises STORE_UNAVAILABLE, or the store's refusal.

        The former at once while the store is silent, if that `is_known` from before.
        """
        try:
            request = pb.GetTenantRequest(name=f"tenants/{name}", without_usage=True)
            return tenant_from(await self._asked(self._stub.GetTenant, request, is_known))
        except grpc.RpcError as error:
            raise store_error(error) from error

    async def acquire_lease(self, lease_id: str, holder: str, keys: Sequence[str], ttl_s: int) -> None:
        """Keeps the bytes of these keys for `ttl_s`. Raises ServiceError."""
        try:
            request = pb.AcquireLeaseRequest(lease_id=lease_id, holder=holder, keys=keys, ttl_s=ttl_s)
            await self._stub.AcquireLease(request, timeout=LEASE_TIMEOUT_S)
        except grpc.RpcError as error:
            raise store_error(error) from error

    async def release_lease(self, lease_id: str) -> None:
        """Ends the lease. Raises ServiceError."""
        try:
            request = pb.ReleaseLeaseRequest(lease_id=lease_id)
            await self._stub.ReleaseLease(request, timeout=LEASE_TIMEOUT_S)
        except grpc.RpcError as error:
            raise store_error(error) from error

    async def close(self) -> None:
        """Ends the calls that run."""
        await self._silence.close()
        await self._channel.close()

    def check_integrity(self) -> None:
        """Raises AssertionError unless every question was answered and what is remembered adds up."""
        self._names.check_idle()

    def __repr__(self) -> str:
        return f"AsyncStoreClient({self._names!r}, {self._silence!r})"


def _resolved(version: pb.AdapterVersion) -> ResolvedAdapter:
    files = tuple(AdapterFile(file.path, file.size_bytes, file.sha256) for file in version.files)
    # Every cache goes by the key: one that is not its files' would stand for somebody else's weights.
    if version.key != adapter_key(files):
        log.error("the store's key for %s is not that of its files: %.80r", version.name, version.key)
        raise corrupt(version.name, "the version", "its key is not that of its files")
    signature = None
    if version.HasField("signature"):
        signature = Signature(version.signature.key_id, version.signature.signature)
    return ResolvedAdapter(AdapterKey(version.key), version.name, version.rank, files, signature)


def _other_base_model(version: pb.AdapterVersion, base_model: str) -> ServiceError:
    message = f"{version.name} was made for base model {version.base_model!r}; this server has {base_model!r}"
    return ServiceError(Code.FAILED_PRECONDITION, Reason.BASE_MODEL_MISMATCH, message)
