"""Rows of adapters, each read together with its aliases and latest version."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    Row,
    Select,
    String,
    and_,
    bindparam,
    func,
    select,
    tuple_,
    update,
)

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
class _Queries:
    """What reads some adapters: their rows, and those of their aliases."""

    adapters: Select[Any]
    aliases: Select[Any]


def _queries(query: Select[Any]) -> _Queries:
    # Not a list of ids: the same words each time are parsed and planned once.
    ids = query.with_only_columns(adapters.c.id)
    of_them = select(aliases).where(aliases.c.adapter_id.in_(ids))
    return _Queries(query, of_them.order_by(aliases.c.adapter_id, aliases.c.alias))


def _page(*, of_tenant: bool, after: bool) -> _Queries:
    query = _SELECT.order_by(adapters.c.tenant, adapters.c.adapter).limit(bindparam("most", type_=Integer))
    if of_tenant:
        query = query.where(adapters.c.tenant == bindparam("of_tenant"))
    if after:
        last = tuple_(bindparam("after_tenant", type_=String), bindparam("after_adapter", type_=String))
        query = query.where(tuple_(adapters.c.tenant, adapters.c.adapter) > last)
    return _queries(query)


# Made once: to make such a query takes longer than PostgreSQL takes to answer it.
_ONE = _queries(
    _SELECT.where(adapters.c.tenant == bindparam("of_tenant"), adapters.c.adapter == bindparam("of_adapter"))
)
# By whether they are of one tenant, and whether they go on after an adapter.
_PAGES = {
    (of_tenant, after): _page(of_tenant=of_tenant, after=after)
    for of_tenant in (False, True)
    for after in (False, True)
}


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
        found = self._read(_ONE, {"of_tenant": name.tenant, "of_adapter": name.adapter})
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
        values: dict[str, Any] = {"most": limit}
        if tenant is not None:
            values["of_tenant"] = tenant
        if after is not None:
            values["after_tenant"], values["after_adapter"] = after
        return self._read(_PAGES[tenant is not None, after is not None], values)

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

    def _read(self, queries: _Queries, values: dict[str, Any]) -> list[Adapter]:
        rows = self._connection.execute(queries.adapters, values).all()
        aliases_of: dict[int, list[Alias]] = {}
        for row in self._connection.execute(queries.aliases, values).all():
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
