"""Rows of adapters, each read together with its aliases and latest version."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, func, insert, select, tuple_, update

from services.adapter_store.domain.adapter import Adapter, Alias
from services.adapter_store.domain.names import AdapterName
from services.adapter_store.domain.version import VersionState
from services.adapter_store.metadata.tables import adapters, aliases, versions
from services.adapter_store.metadata.timestamps import from_us, to_us


class AdapterRows:
    """Adapters by name."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, name: AdapterName) -> Adapter | None:
        """The adapter of this name."""
        found = self._read(
            select(adapters).where(adapters.c.tenant == name.tenant, adapters.c.adapter == name.adapter)
        )
        return found[0] if found else None

    def page(self, tenant: str | None, after: tuple[str, str] | None, limit: int) -> Sequence[Adapter]:
        """Up to `limit` adapters by tenant and name, of one tenant or of all."""
        query = select(adapters).order_by(adapters.c.tenant, adapters.c.adapter).limit(limit)
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
    ) -> None:
        """Adds an adapter whose name is new."""
        self._connection.execute(
            insert(adapters).values(
                tenant=name.tenant,
                adapter=name.adapter,
                base_model=base_model,
                display_name=display_name,
                description=description,
                labels=labels,
                revision=1,
                last_version=0,
                create_time_us=to_us(now),
                update_time_us=to_us(now),
            )
        )

    def update(self, adapter: Adapter, changes: dict[str, Any], now: datetime) -> bool:
        """Applies `changes` to the row if it still has the revision of `adapter`; says whether it did."""
        query = (
            update(adapters)
            .where(adapters.c.id == adapter.id, adapters.c.revision == adapter.revision)
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
        ids = [row.id for row in rows]
        alias_query = (
            select(aliases)
            .where(aliases.c.adapter_id.in_(ids))
            .order_by(aliases.c.adapter_id, aliases.c.alias)
        )
        aliases_of: dict[int, list[Alias]] = {}
        for row in self._connection.execute(alias_query):
            alias = Alias(row.alias, row.version, from_us(row.update_time_us))
            aliases_of.setdefault(row.adapter_id, []).append(alias)
        latest_query = (
            select(versions.c.adapter_id, func.max(versions.c.version).label("latest"))
            .where(versions.c.adapter_id.in_(ids), versions.c.state == VersionState.ACTIVE.value)
            .group_by(versions.c.adapter_id)
        )
        latest_of = {row.adapter_id: row.latest for row in self._connection.execute(latest_query)}
        return [_adapter(row, aliases_of.get(row.id, []), latest_of.get(row.id, 0)) for row in rows]


def _adapter(row: Row[Any], found: list[Alias], latest_version: int) -> Adapter:
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
        latest_version=latest_version,
    )
