"""The RPCs of base models."""

from protos.multilora.v1 import adapter_store_pb2 as pb
from services.adapter_store.servicer import wire
from services.adapter_store.servicer.calling import Context, actor_of, call
from services.adapter_store.servicer.pages import fit_page
from services.adapter_store.store import Store


class BaseModelRpcs:
    """What uploads are checked against."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def RegisterBaseModel(self, request: pb.RegisterBaseModelRequest, context: Context) -> pb.BaseModel:
        """See the proto."""
        model = wire.base_model_from(request.base_model)
        return wire.base_model(
            await call(self._store.base_models.register, model, actor_of(context, "RegisterBaseModel"))
        )

    async def GetBaseModel(self, request: pb.GetBaseModelRequest, context: Context) -> pb.BaseModel:
        """See the proto."""
        return wire.base_model(await call(self._store.base_models.get, request.base_model))

    async def ListBaseModels(
        self, request: pb.ListBaseModelsRequest, context: Context
    ) -> pb.ListBaseModelsResponse:
        """See the proto."""
        page = await call(self._store.base_models.list, request.page_size, request.page_token)
        messages, next_page_token = fit_page(page, wire.base_model)
        return pb.ListBaseModelsResponse(base_models=messages, next_page_token=next_page_token)
