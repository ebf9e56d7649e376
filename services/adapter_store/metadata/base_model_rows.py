"""Rows of base models."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, select, update

from services.adapter_store.domain.base_model import BaseModel, Module
from services.adapter_store.metadata.insertion import insert_if_absent
from services.adapter_store.metadata.storable import is_storable
from services.adapter_store.metadata.tables import base_models


class BaseModelRows:
    """Base models by name."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, name: str) -> BaseModel | None:
        """The base model of this name."""
        if not is_storable(name):
            return None
        row = self._connection.execute(select(base_models).where(base_models.c.name == name)).first()
        return None if row is None else _base_model(row)

    def page(self, after: str | None, limit: int) -> Sequence[BaseModel]:
        """Up to `limit` base models by name, from after `after`."""
        query = select(base_models).order_by(base_models.c.name).limit(limit)
        if after is not None:
            query = query.where(base_models.c.name > after)
        return [_base_model(row) for row in self._connection.execute(query)]

    def lock(self, name: str) -> BaseModel | None:
        """The base model of this name, which nobody else changes before this transaction ends."""
        query = select(base_models).where(base_models.c.name == name).with_for_update(key_share=True)
        row = self._connection.execute(query).first()
        return None if row is None else _base_model(row)

    def insert(self, model: BaseModel) -> bool:
        """Adds a base model unless one has the name; says whether it did."""
        return insert_if_absent(self._connection, base_models, {"name": model.name, **_values(model)})

    def replace(self, model: BaseModel) -> None:
        """Replaces what is known of a base model."""
        query = update(base_models).where(base_models.c.name == model.name).values(**_values(model))
        self._connection.execute(query)


def _values(model: BaseModel) -> dict[str, Any]:
    return {
        "digest": model.digest,
        "architecture": model.architecture,
        "hidden_size": model.hidden_size,
        "num_layers": model.num_layers,
        "max_rank": model.max_rank,
        "modules": [[m.name, m.in_features, m.out_features] for m in model.modules],
    }


def _base_model(row: Row[Any]) -> BaseModel:
    return BaseModel(
        name=row.name,
        digest=row.digest,
        architecture=row.architecture,
        hidden_size=row.hidden_size,
        num_layers=row.num_layers,
        modules=tuple(Module(*module) for module in row.modules),
        max_rank=row.max_rank,
    )
