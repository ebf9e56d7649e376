"""Rows of aliases, moved by compare-and-swap, and of every move."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select, update

from services.adapter_store.domain.adapter import Alias, AliasMove
from services.adapter_store.metadata.tables import alias_moves, aliases
from services.adapter_store.metadata.timestamps import from_us, to_us


class AliasRows:
    """Aliases by adapter id and name."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, adapter_id: int, alias: str) -> Alias | None:
        """The alias of this name."""
        query = select(aliases).where(aliases.c.adapter_id == adapter_id, aliases.c.alias == alias)
        row = self._connection.execute(query).first()
        return None if row is None else Alias(row.alias, row.version, from_us(row.update_time_us))

    def insert(self, adapter_id: int, alias: str, version: int, now: datetime) -> None:
        """Adds an alias whose name is new."""
        self._connection.execute(
            insert(aliases).values(
                adapter_id=adapter_id, alias=alias, version=version, revision=1, update_time_us=to_us(now)
            )
        )

    def move(self, adapter_id: int, alias: str, from_version: int, to_version: int, now: datetime) -> bool:
        """Moves the alias if it still points at `from_version`; says whether it did."""
        query = (
            update(aliases)
            .where(
                aliases.c.adapter_id == adapter_id,
                aliases.c.alias == alias,
                aliases.c.version == from_version,
            )
            .values(version=to_version, revision=aliases.c.revision + 1, update_time_us=to_us(now))
        )
        return self._connection.execute(query).rowcount == 1

    def delete(self, adapter_id: int, alias: str, from_version: int) -> bool:
        """Deletes the alias if it still points at `from_version`; says whether it did."""
        query = delete(aliases).where(
            aliases.c.adapter_id == adapter_id,
            aliases.c.alias == alias,
            aliases.c.version == from_version,
        )
        return self._connection.execute(query).rowcount == 1

    def record(
        self, adapter_id: int, alias: str, from_version: int, to_version: int, now: datetime, moved_by: str
    ) -> None:
        """Adds one move to the alias's history; 0 stands for no version."""
        self._connection.execute(
            insert(alias_moves).values(
                adapter_id=adapter_id,
                alias=alias,
                from_version=from_version,
                to_version=to_version,
                revision=0,
                time_us=to_us(now),
                moved_by=moved_by,
            )
        )

    def history(self, adapter_id: int, alias: str, before_id: int | None, limit: int) -> Sequence[AliasMove]:
        """Up to `limit` moves, newest first."""
        query = (
            select(alias_moves)
            .where(alias_moves.c.adapter_id == adapter_id, alias_moves.c.alias == alias)
            .order_by(alias_moves.c.id.desc())
            .limit(limit)
        )
        if before_id is not None:
            query = query.where(alias_moves.c.id < before_id)
        return [
            AliasMove(row.id, row.from_version, row.to_version, from_us(row.time_us), row.moved_by)
            for row in self._connection.execute(query)
        ]

    def targets(self) -> Sequence[tuple[int, str, int]]:
        """Every alias as (adapter id, alias, version)."""
        query = select(aliases.c.adapter_id, aliases.c.alias, aliases.c.version)
        return [(row.adapter_id, row.alias, row.version) for row in self._connection.execute(query)]
