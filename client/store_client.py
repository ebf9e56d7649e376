"""The adapter store's RPCs as typed async methods, and `push`, which publishes a directory in one call."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import google_crc32c

from client.channel import DEFAULT_STORE, open_channel
from client.credentials import Credentials
from client.errors import MultiloraError, rpc_errors
from client.pages import PAGE_SIZE, pages
from client.push import Push
from client.registry import (
    Adapter,
    AdapterVersion,
    BaseModel,
    Lineage,
)
from client.signing import SigningKey
from client.store_access import StoreAccess
from client.store_aliases import StoreAliases
from client.store_upkeep import StoreUpkeep
from client.store_watch import StoreWatch
from client.upload import Progress, ignore_progress
from client.wire import decode, to_json
from protos.multilora.v1 import adapter_store_pb2 as pb
from protos.multilora.v1.adapter_store_pb2_grpc import AdapterStoreServiceStub


class StoreClient(StoreAccess, StoreAliases, StoreUpkeep, StoreWatch):
    """A connection to one adapter store; use it as `async with StoreClient(address) as store`.

    Make it inside a running event loop. Names are full resource names or the short forms `acme/support`,
    `acme/support@3` and `acme/support@staging`. Every method raises MultiloraError.
    """

    def __init__(self, address: str = DEFAULT_STORE, credentials: Credentials | None = None) -> None:
        self.address = address
        self._channel = open_channel(address, credentials)
        self._stub = AdapterStoreServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the connection."""
        await self._channel.close()

    async def register_base_model(self, base_model: BaseModel) -> BaseModel:
        """Makes a base model known; the same again is no error, another digest under its name is."""
        request = pb.RegisterBaseModelRequest(base_model=pb.BaseModel(**to_json(base_model)))
        with rpc_errors():
            return decode(BaseModel, await self._stub.RegisterBaseModel(request))

    async def get_base_model(self, base_model: str) -> BaseModel:
        """One base model by name."""
        with rpc_errors():
            return decode(
                BaseModel, await self._stub.GetBaseModel(pb.GetBaseModelRequest(base_model=base_model))
            )

    async def list_base_models(self) -> list[BaseModel]:
        """Every base model."""
        found = pages(self._stub.ListBaseModels, pb.ListBaseModelsRequest(page_size=PAGE_SIZE))
        return [decode(BaseModel, each) async for page in found for each in page.base_models]

    async def create_adapter(
        self,
        name: str,
        base_model: str,
        *,
        display_name: str = "",
        description: str = "",
        labels: Mapping[str, str] | None = None,
    ) -> Adapter:
        """A new adapter without versions."""
        adapter = pb.Adapter(
            name=name,
            base_model=base_model,
            display_name=display_name,
            description=description,
            labels=dict(labels or {}),
        )
        with rpc_errors():
            return decode(Adapter, await self._stub.CreateAdapter(pb.CreateAdapterRequest(adapter=adapter)))

    async def get_adapter(self, name: str) -> Adapter:
        """One adapter with its aliases and latest version."""
        with rpc_errors():
            return decode(Adapter, await self._stub.GetAdapter(pb.GetAdapterRequest(name=name)))

    async def list_adapters(self, tenant: str = "") -> list[Adapter]:
        """Every adapter of a tenant, or of all tenants."""
        parent = f"tenants/{tenant}" if tenant and not tenant.startswith("tenants/") else tenant
        found = pages(self._stub.ListAdapters, pb.ListAdaptersRequest(parent=parent, page_size=PAGE_SIZE))
        return [decode(Adapter, each) async for page in found for each in page.adapters]

    async def update_adapter(
        self,
        name: str,
        *,
        display_name: str | None = None,
        description: str | None = None,
        labels: Mapping[str, str] | None = None,
        etag: str = "",
    ) -> Adapter:
        """Changes what is not None. With `etag`, only if nobody else changed it since (ABORTED)."""
        changes: dict[str, Any] = {"display_name": display_name, "description": description, "labels": labels}
        changes = {field: value for field, value in changes.items() if value is not None}
        if not changes:
            return await self.get_adapter(name)
        request = pb.UpdateAdapterRequest(adapter=pb.Adapter(name=name, etag=etag, **changes))
        request.update_mask.paths.extend(changes)
        with rpc_errors():
            return decode(Adapter, await self._stub.UpdateAdapter(request))

    async def delete_adapter(self, name: str, *, etag: str = "") -> None:
        """Deletes an adapter, its versions and aliases; with `etag`, only if nobody changed it since."""
        with rpc_errors():
            await self._stub.DeleteAdapter(pb.DeleteAdapterRequest(name=name, etag=etag))

    async def push(
        self,
        directory: str | Path,
        adapter: str,
        *,
        base_model: str = "",
        alias: str = "",
        labels: Mapping[str, str] | None = None,
        lineage: Lineage | None = None,
        request_id: str = "",
        signing_key: SigningKey | None = None,
        progress: Progress = ignore_progress,
    ) -> AdapterVersion:
        """Uploads a PEFT directory as the adapter's next version and returns it, ACTIVE.

        Creates the adapter if it is new, for `base_model` (default: the only one registered). Survives broken
        connections. `alias` is pointed at the new version. A `request_id` used before continues that upload.
        With `signing_key` the version is signed.
        """
        push = Push(
            self._stub,
            labels=labels or {},
            lineage=lineage or Lineage(),
            request_id=request_id,
            signing_key=signing_key,
        )
        await push.ensure_adapter(adapter, base_model)
        version = await push.upload(Path(directory), adapter, progress)
        if alias:
            await self.set_alias(f"{adapter}@{alias}", version.version)
        return version

    async def get_version(self, name: str) -> AdapterVersion:
        """One version in whatever state."""
        with rpc_errors():
            return decode(AdapterVersion, await self._stub.GetVersion(pb.GetVersionRequest(name=name)))

    async def list_versions(self, adapter: str) -> list[AdapterVersion]:
        """Every version of an adapter, newest first."""
        found = pages(self._stub.ListVersions, pb.ListVersionsRequest(parent=adapter, page_size=PAGE_SIZE))
        return [decode(AdapterVersion, each) async for page in found for each in page.versions]

    async def resolve_version(self, name: str, *, split_key: str = "") -> AdapterVersion:
        """The ACTIVE version that `name` means now, for requests with this `split_key`."""
        request = pb.ResolveVersionRequest(name=name, split_key=split_key)
        with rpc_errors():
            return decode(AdapterVersion, await self._stub.ResolveVersion(request))

    async def disable_version(self, name: str) -> AdapterVersion:
        """Refuses the version to new requests; running streams finish."""
        with rpc_errors():
            return decode(
                AdapterVersion, await self._stub.DisableVersion(pb.DisableVersionRequest(name=name))
            )

    async def enable_version(self, name: str) -> AdapterVersion:
        """Takes a disable back."""
        with rpc_errors():
            return decode(AdapterVersion, await self._stub.EnableVersion(pb.EnableVersionRequest(name=name)))

    async def delete_version(self, name: str) -> AdapterVersion:
        """Deletes a version for good; refused while an alias points at it."""
        with rpc_errors():
            return decode(AdapterVersion, await self._stub.DeleteVersion(pb.DeleteVersionRequest(name=name)))

    async def read(self, version: str, path: str, *, offset: int = 0, limit: int = 0) -> AsyncIterator[bytes]:
        """One file's bytes from `offset`, at most `limit` (0: to the end), each chunk checked."""
        request = pb.ReadRequest(name=version, path=path, read_offset=offset, read_limit=limit)
        with rpc_errors():
            async for chunk in self._stub.Read(request):
                if chunk.HasField("crc32c") and google_crc32c.value(chunk.data) != chunk.crc32c:
                    raise MultiloraError(
                        "DATA_LOSS", f"{path}: a chunk was damaged on the way; read it again"
                    )
                yield chunk.data
