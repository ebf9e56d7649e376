"""Registers and shows base models."""

from services.adapter_store.catalog.lookup import find_base_model
from services.adapter_store.domain.actor import STORE, Actor
from services.adapter_store.domain.base_model import BaseModel, check_base_model
from services.adapter_store.domain.fields import quoted
from services.adapter_store.domain.listing import Key, Listing, list_page
from services.adapter_store.metadata import Database
from services.common.errors import Code, Reason, ServiceError


class BaseModels:
    """Base models, by name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def register(self, model: BaseModel, actor: Actor = STORE) -> BaseModel:
        """Makes `model` known. The same digest again replaces what was known (such as max_rank).

        Raises INVALID_FIELD, and BASE_MODEL_CONFLICT if another digest has the name.
        """
        check_base_model(model)
        with self._database.write(actor) as uow:
            known = None if uow.base_models.insert(model) else uow.base_models.lock(model.name)
            if known is not None and known.digest != model.digest:
                raise ServiceError(
                    Code.FAILED_PRECONDITION,
                    Reason.BASE_MODEL_CONFLICT,
                    f"base model {quoted(model.name)} is registered with digest {known.digest}, not "
                    f"{model.digest}: use the same weights, or register these under another name",
                    field="base_model.digest",
                    metadata={"digest": known.digest},
                )
            if known not in (None, model):
                uow.base_models.replace(model)
            if known != model:
                uow.audit.add(
                    "", f"base_models/{model.name}", f"digest {model.digest}, max_rank {model.max_rank}"
                )
            uow.commit()
        return model

    def get(self, name: str) -> BaseModel:
        """The base model of this name. Raises BASE_MODEL_NOT_FOUND."""
        with self._database.read() as uow:
            return find_base_model(uow, name)

    def list(self, page_size: int, page_token: str) -> Listing[BaseModel]:
        """Base models by name."""

        def fetch(after: Key | None, limit: int) -> list[BaseModel]:
            with self._database.read() as uow:
                return [*uow.base_models.page(None if after is None else str(after[0]), limit)]

        return list_page("base_models", page_size, page_token, ("",), fetch, lambda model: (model.name,))
