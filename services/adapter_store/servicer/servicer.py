"""AdapterStoreService: parses names, calls the catalog and uploads in threads, answers messages."""

import contextlib
from collections.abc import AsyncIterator

from protos.multilora.v1 import adapter_store_pb2 as pb
from protos.multilora.v1 import adapter_store_pb2_grpc as pb_grpc
from services.adapter_store.catalog.adapters import UPDATABLE
from services.adapter_store.domain.names import (
    parse_adapter,
    parse_reference,
    parse_tenant,
    parse_version,
)
from services.adapter_store.servicer import transfer, wire
from services.adapter_store.servicer.access_rpcs import AccessRpcs
from services.adapter_store.servicer.alias_rpcs import AliasRpcs
from services.adapter_store.servicer.calling import Context
from services.adapter_store.servicer.calling import actor_of as _actor
from services.adapter_store.servicer.calling import call as _call
from services.adapter_store.servicer.imports import ImportRpcs
from services.adapter_store.servicer.pages import fit_page
from services.adapter_store.servicer.read_urls import add_read_urls
from services.adapter_store.servicer.upkeep import UpkeepRpcs
from services.adapter_store.servicer.upload_room import UploadRoom
from services.adapter_store.servicer.watches import Watches
from services.adapter_store.store import Store
from services.common.access_guard import caller_of


class AdapterStoreServicer(
    AccessRpcs, AliasRpcs, ImportRpcs, UpkeepRpcs, pb_grpc.AdapterStoreServiceServicer
):
    """One method an RPC; the protos say what each does and the domain raises what goes wrong."""

    def __init__(self, store: Store) -> None:
        AliasRpcs.__init__(self, store)
        ImportRpcs.__init__(self, store)
        UpkeepRpcs.__init__(self, store)
        self._store = store
        self._upload_room = UploadRoom(store.intake.max_streams)
        self._watches = Watches(store.changes, store.change_signal)

    async def drain(self) -> None:
        """Ends what would go on without end: watchers are told to go elsewhere."""
        self._watches.close()

    async def RegisterBaseModel(self, request: pb.RegisterBaseModelRequest, context: Context) -> pb.BaseModel:
        """See the proto."""
        model = wire.base_model_from(request.base_model)
        return wire.base_model(
            await _call(self._store.base_models.register, model, _actor(context, "RegisterBaseModel"))
        )

    async def GetBaseModel(self, request: pb.GetBaseModelRequest, context: Context) -> pb.BaseModel:
        """See the proto."""
        return wire.base_model(await _call(self._store.base_models.get, request.base_model))

    async def ListBaseModels(
        self, request: pb.ListBaseModelsRequest, context: Context
    ) -> pb.ListBaseModelsResponse:
        """See the proto."""
        page = await _call(self._store.base_models.list, request.page_size, request.page_token)
        messages, next_page_token = fit_page(page, wire.base_model)
        return pb.ListBaseModelsResponse(base_models=messages, next_page_token=next_page_token)

    async def CreateAdapter(self, request: pb.CreateAdapterRequest, context: Context) -> pb.Adapter:
        """See the proto."""
        sent = request.adapter
        name = parse_adapter(sent.name, "adapter.name")
        created = await _call(
            self._store.adapters.create,
            name,
            sent.base_model,
            sent.display_name,
            sent.description,
            dict(sent.labels),
            _actor(context, "CreateAdapter"),
        )
        return wire.adapter(created)

    async def GetAdapter(self, request: pb.GetAdapterRequest, context: Context) -> pb.Adapter:
        """See the proto."""
        return wire.adapter(await _call(self._store.adapters.get, parse_adapter(request.name, "name")))

    async def ListAdapters(
        self, request: pb.ListAdaptersRequest, context: Context
    ) -> pb.ListAdaptersResponse:
        """See the proto."""
        tenant = parse_tenant(request.parent, "parent") if request.parent else caller_of(context).only_tenant
        page = await _call(self._store.adapters.list, tenant, request.page_size, request.page_token)
        messages, next_page_token = fit_page(page, wire.adapter)
        return pb.ListAdaptersResponse(adapters=messages, next_page_token=next_page_token)

    async def UpdateAdapter(self, request: pb.UpdateAdapterRequest, context: Context) -> pb.Adapter:
        """See the proto."""
        sent = request.adapter
        name = parse_adapter(sent.name, "adapter.name")
        values = {
            "display_name": sent.display_name,
            "description": sent.description,
            "labels": dict(sent.labels),
        }
        changes = {field: values.get(field) for field in request.update_mask.paths or UPDATABLE}
        actor = _actor(context, "UpdateAdapter")
        return wire.adapter(await _call(self._store.adapters.update, name, sent.etag, changes, actor))

    async def DeleteAdapter(
        self, request: pb.DeleteAdapterRequest, context: Context
    ) -> pb.DeleteAdapterResponse:
        """See the proto."""
        name, actor = parse_adapter(request.name, "name"), _actor(context, "DeleteAdapter")
        await _call(self._store.deletions.delete_adapter, name, request.etag, actor)
        return pb.DeleteAdapterResponse()

    async def StartUpload(self, request: pb.StartUploadRequest, context: Context) -> pb.StartUploadResponse:
        """See the proto."""
        upload, persisted = await _call(
            self._store.uploads.start,
            parse_adapter(request.parent, "parent"),
            wire.files_from(request.files),
            dict(request.labels),
            wire.lineage_from(request.lineage),
            request.request_id,
            _actor(context, "StartUpload"),
            wire.signature_from(request),
        )
        return wire.started(upload, persisted)

    async def Upload(
        self, request_iterator: AsyncIterator[pb.UploadRequest], context: Context
    ) -> pb.UploadResponse:
        """See the proto."""
        persisted_bytes = await transfer.take(
            self._store.intake, self._upload_room, request_iterator, _actor(context, "Upload")
        )
        return pb.UploadResponse(persisted_bytes=persisted_bytes)

    async def GetUpload(self, request: pb.GetUploadRequest, context: Context) -> pb.UploadStatus:
        """See the proto."""
        upload, persisted = await _call(self._store.uploads.get, request.upload_id)
        return wire.upload_status(upload, persisted)

    async def AbortUpload(self, request: pb.AbortUploadRequest, context: Context) -> pb.AbortUploadResponse:
        """See the proto."""
        await _call(self._store.uploads.abort, request.upload_id, _actor(context, "AbortUpload"))
        return pb.AbortUploadResponse()

    async def FinishUpload(self, request: pb.FinishUploadRequest, context: Context) -> pb.AdapterVersion:
        """See the proto."""
        actor = _actor(context, "FinishUpload")
        return wire.version(await _call(self._store.uploads.finish, request.upload_id, actor))

    async def GetVersion(self, request: pb.GetVersionRequest, context: Context) -> pb.AdapterVersion:
        """See the proto."""
        return wire.version(await _call(self._store.versions.get, *parse_version(request.name, "name")))

    async def ListVersions(
        self, request: pb.ListVersionsRequest, context: Context
    ) -> pb.ListVersionsResponse:
        """See the proto."""
        name = parse_adapter(request.parent, "parent")
        page = await _call(self._store.versions.list, name, request.page_size, request.page_token)
        messages, next_page_token = fit_page(page, wire.version)
        return pb.ListVersionsResponse(versions=messages, next_page_token=next_page_token)

    async def ResolveVersion(self, request: pb.ResolveVersionRequest, context: Context) -> pb.AdapterVersion:
        """See the proto."""
        reference = parse_reference(request.name, "name")
        found = await _call(self._store.versions.resolve, reference, request.split_key)
        if request.read_urls:
            return await _call(add_read_urls, wire.resolution(found), self._store.blobs)
        return wire.resolution(found)

    async def DisableVersion(self, request: pb.DisableVersionRequest, context: Context) -> pb.AdapterVersion:
        """See the proto."""
        name, actor = parse_version(request.name, "name"), _actor(context, "DisableVersion")
        return wire.version(await _call(self._store.versions.disable, *name, actor))

    async def EnableVersion(self, request: pb.EnableVersionRequest, context: Context) -> pb.AdapterVersion:
        """See the proto."""
        name, actor = parse_version(request.name, "name"), _actor(context, "EnableVersion")
        return wire.version(await _call(self._store.versions.enable, *name, actor))

    async def Read(self, request: pb.ReadRequest, context: Context) -> AsyncIterator[pb.ReadResponse]:
        """See the proto."""
        async with contextlib.aclosing(
            transfer.give(self._store.versions, self._store.blobs, request, caller_of(context).only_tenant)
        ) as chunks:
            async for chunk in chunks:
                yield chunk

    async def DeleteVersion(self, request: pb.DeleteVersionRequest, context: Context) -> pb.AdapterVersion:
        """See the proto."""
        name, actor = parse_version(request.name, "name"), _actor(context, "DeleteVersion")
        return wire.version(await _call(self._store.deletions.delete_version, *name, actor))

    async def Watch(self, request: pb.WatchRequest, context: Context) -> AsyncIterator[pb.WatchResponse]:
        """See the proto."""
        tenant = parse_tenant(request.parent, "parent") if request.parent else caller_of(context).only_tenant
        stream = self._watches.stream(request.resume_token, tenant)
        async with contextlib.aclosing(stream) as responses:
            async for response in responses:
                yield response
