"""The RPCs of adapters."""

from protos.multilora.v1 import adapter_store_pb2 as pb
from services.adapter_store.catalog.adapters import UPDATABLE
from services.adapter_store.domain.names import parse_adapter, parse_tenant
from services.adapter_store.servicer import wire
from services.adapter_store.servicer.calling import Context, actor_of, call
from services.adapter_store.servicer.pages import fit_page
from services.adapter_store.store import Store
from services.common.access_guard import caller_of


class AdapterRpcs:
    """Made, shown, changed and deleted, by name."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def CreateAdapter(self, request: pb.CreateAdapterRequest, context: Context) -> pb.Adapter:
        """See the proto."""
        sent = request.adapter
        name = parse_adapter(sent.name, "adapter.name")
        created = await call(
            self._store.adapters.create,
            name,
            sent.base_model,
            sent.display_name,
            sent.description,
            dict(sent.labels),
            actor_of(context, "CreateAdapter"),
        )
        return wire.adapter(created)

    async def GetAdapter(self, request: pb.GetAdapterRequest, context: Context) -> pb.Adapter:
        """See the proto."""
        return wire.adapter(await call(self._store.adapters.get, parse_adapter(request.name, "name")))

    async def ListAdapters(
        self, request: pb.ListAdaptersRequest, context: Context
    ) -> pb.ListAdaptersResponse:
        """See the proto."""
        tenant = parse_tenant(request.parent, "parent") if request.parent else caller_of(context).only_tenant
        page = await call(self._store.adapters.list, tenant, request.page_size, request.page_token)
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
        actor = actor_of(context, "UpdateAdapter")
        return wire.adapter(await call(self._store.adapters.update, name, sent.etag, changes, actor))

    async def DeleteAdapter(
        self, request: pb.DeleteAdapterRequest, context: Context
    ) -> pb.DeleteAdapterResponse:
        """See the proto."""
        name, actor = parse_adapter(request.name, "name"), actor_of(context, "DeleteAdapter")
        await call(self._store.deletions.delete_adapter, name, request.etag, actor)
        return pb.DeleteAdapterResponse()
