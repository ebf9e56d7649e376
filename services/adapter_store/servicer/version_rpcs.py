"""The RPCs of versions: shown, resolved, read, and taken out of use."""

import contextlib
from collections.abc import AsyncIterator

from protos.multilora.v1 import adapter_store_pb2 as pb
from services.adapter_store.domain.names import parse_adapter, parse_reference, parse_version
from services.adapter_store.servicer import transfer, wire
from services.adapter_store.servicer.calling import Context, actor_of, call
from services.adapter_store.servicer.pages import fit_page
from services.adapter_store.servicer.read_urls import add_read_urls
from services.adapter_store.store import Store
from services.common.access_guard import caller_of


class VersionRpcs:
    """Versions by name or AdapterKey."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def GetVersion(self, request: pb.GetVersionRequest, context: Context) -> pb.AdapterVersion:
        """See the proto."""
        return wire.version(await call(self._store.versions.get, *parse_version(request.name, "name")))

    async def ListVersions(
        self, request: pb.ListVersionsRequest, context: Context
    ) -> pb.ListVersionsResponse:
        """See the proto."""
        name = parse_adapter(request.parent, "parent")
        page = await call(self._store.versions.list, name, request.page_size, request.page_token)
        messages, next_page_token = fit_page(page, wire.version)
        return pb.ListVersionsResponse(versions=messages, next_page_token=next_page_token)

    async def ResolveVersion(self, request: pb.ResolveVersionRequest, context: Context) -> pb.AdapterVersion:
        """See the proto."""
        reference = parse_reference(request.name, "name")
        found = await call(self._store.versions.resolve, reference, request.split_key)
        if request.read_urls:
            return await call(add_read_urls, wire.resolution(found), self._store.blobs)
        return wire.resolution(found)

    async def Read(self, request: pb.ReadRequest, context: Context) -> AsyncIterator[pb.ReadResponse]:
        """See the proto."""
        async with contextlib.aclosing(
            transfer.give(self._store.versions, self._store.blobs, request, caller_of(context).only_tenant)
        ) as chunks:
            async for chunk in chunks:
                yield chunk

    async def DisableVersion(self, request: pb.DisableVersionRequest, context: Context) -> pb.AdapterVersion:
        """See the proto."""
        name, actor = parse_version(request.name, "name"), actor_of(context, "DisableVersion")
        return wire.version(await call(self._store.versions.disable, *name, actor))

    async def EnableVersion(self, request: pb.EnableVersionRequest, context: Context) -> pb.AdapterVersion:
        """See the proto."""
        name, actor = parse_version(request.name, "name"), actor_of(context, "EnableVersion")
        return wire.version(await call(self._store.versions.enable, *name, actor))

    async def DeleteVersion(self, request: pb.DeleteVersionRequest, context: Context) -> pb.AdapterVersion:
        """See the proto."""
        name, actor = parse_version(request.name, "name"), actor_of(context, "DeleteVersion")
        return wire.version(await call(self._store.deletions.delete_version, *name, actor))
