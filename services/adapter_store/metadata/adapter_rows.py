"""Rows of adapters, each read together with its aliases and latest version."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, func, select, tuple_, update

from services.adapter_store.domain.adapter import Adapter
from services.adapter_store.domain.alias import Alias
from services.adapter_store.domain.names import AdapterName
from services.adapter_store.domain.version import VersionState
from services.adapter_store.metadata.alias_rows import alias_of
from services.adapter_store.metadata.insertion import insert_if_absent
from services.adapter_store.metadata.tables import adapters, aliases, versions
from services.adapter_store.metadata.timestamps import from_us, to_us

_LIVING = adapters.c.delete_time_us.is_(None)
# A look at the end of an index, however many versions there are.
_LATEST = func.coalesce(
    select(func.max(versions.c.version))
    .where(versions.c.adapter_id == adapters.c.id, versions.c.state == VersionState.ACTIVE.value)
    .correlate(adapters)
    .scalar_subquery(),
    0,
).label("latest_version")
_SELECT = select(adapters, _LATEST).where(_LIVING)


@dataclass(frozen=True, slots=True)
class Pointers:
    """What names of one adapter point at: one alias, if there is one of the name, and the latest version."""

    adapter_id: int
    alias: Alias | None
    latest_version: int


class AdapterRows:
    """Adapters by name. One that was deleted is not found; its row keeps its last version number."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, name: AdapterName) -> Adapter | None:
        """The adapter of this name."""
        found = self._read(_SELECT.where(_named(name)))
        return found[0] if found else None

    def pointers(self, name: AdapterName, alias: str) -> Pointers | None:
        """What the alias and the adapter's bare name point at, in one round trip; None: no such adapter."""
        query = (
            select(adapters.c.id, _LATEST, aliases)
            .select_from(adapters)
            .outerjoin(aliases, and_(aliases.c.adapter_id == adapters.c.id, aliases.c.alias == alias))
            .where(_named(name), _LIVING)
        )
        row = self._connection.execute(query).first()
        if row is None:
            return None
        return Pointers(row.id, None if row.alias is None else alias_of(row), row.latest_version)

    def lock(self, name: AdapterName) -> None:
        """Makes other writers of this adapter wait for the end of this unit of work."""
        # SQLite has one writer at a time anyway, and no such words.
        self._connection.execute(select(adapters.c.id).where(_named(name)).with_for_update())

    def page(self, tenant: str | None, after: tuple[str, str] | None, limit: int) -> Sequence[Adapter]:
        """Up to `limit` adapters by tenant and name, of one tenant or of all."""
        query = _SELECT.order_by(adapters.c.tenant, adapters.c.adapter).limit(limit)
        if tenant is not None:
            query = query.where(adapters.c.tenant == tenant)
        if after is not None:
            query = query.where(tuple_(adapters.c.tenant, adapters.c.adapter) > tuple_(*after))
        return self._read(query)

    def insert(
        self,
        name: AdapterName,
        base_model: str,
        display_name: str,
        description: str,
        labels: dict[str, str],
        now: datetime,
    ) -> bool:
        """Adds an adapter unless one has the name; says whether it did.

        Where the name is free again, the new one's versions are numbered on.
        """
        values = {
            "base_model": base_model,
            "display_name": display_name,
            "description": description,
            "labels": labels,
            "create_time_us": to_us(now),
            "update_time_us": to_us(now),
        }
        revive = (
            update(adapters)
            .where(_named(name), adapters.c.delete_time_us.is_not(None))
            .values(**values, revision=adapters.c.revision + 1, delete_time_us=None)
        )
        if self._connection.execute(revive).rowcount == 1:
            return True
        new = {"tenant": name.tenant, "adapter": name.adapter, "revision": 1, "last_version": 0}
        return insert_if_absent(self._connection, adapters, {**values, **new})

    def delete(self, adapter: Adapter, now: datetime) -> bool:
        """Frees the name if the row still has the revision of `adapter`; says whether it did."""
        return self.update(adapter, {"delete_time_us": to_us(now)}, now)

    def update(self, adapter: Adapter, changes: dict[str, Any], now: datetime) -> bool:
        """Applies `changes` to the row if it still has the revision of `adapter`; says whether it did."""
        query = (
            update(adapters)
            .where(adapters.c.id == adapter.id, adapters.c.revision == adapter.revision, _LIVING)
            .values(**changes, revision=adapters.c.revision + 1, update_time_us=to_us(now))
        )
        return self._connection.execute(query).rowcount == 1

    def next_version(self, adapter_id: int) -> int:
        """Allocates the next version number: 1, 2, 3, ..."""
        query = (
            update(adapters)
            .where(adapters.c.id == adapter_id)
            .values(last_version=adapters.c.last_version + 1)
            .returning(adapters.c.last_version)
        )
        number: int = self._connection.execute(query).scalar_one()
        return number

    def last_versions(self) -> dict[int, int]:
        """The last version number allocated, by adapter id."""
        query = select(adapters.c.id, adapters.c.last_version)
        return {row.id: row.last_version for row in self._connection.execute(query)}

    def _read(self, query: Select[Any]) -> list[Adapter]:
        rows = self._connection.execute(query).all()
        # Not a list of ids: the same words each time are parsed and planned once.
        ids = query.with_only_columns(adapters.c.id)
        alias_query = (
            select(aliases)
            .where(aliases.c.adapter_id.in_(ids))
            .order_by(aliases.c.adapter_id, aliases.c.alias)
        )
        aliases_of: dict[int, list[Alias]] = {}
        for row in self._connection.execute(alias_query):
            aliases_of.setdefault(row.adapter_id, []).append(alias_of(row))
        return [_adapter(row, aliases_of.get(row.id, [])) for row in rows]


def _named(name: AdapterName) -> ColumnElement[bool]:
    return and_(adapters.c.tenant == name.tenant, adapters.c.adapter == name.adapter)


def _adapter(row: Row[Any], found: list[Alias]) -> Adapter:
    return Adapter(
        id=row.id,
        name=AdapterName(row.tenant, row.adapter),
        base_model=row.base_model,
        display_name=row.display_name,
        description=row.description,
        labels=row.labels,
        revision=row.revision,
        create_time=from_us(row.create_time_us),
        update_time=from_us(row.update_time_us),
        aliases=tuple(found),
        latest_version=row.latest_version,
    )
