"""Rows of aliases, moved by compare-and-swap, and of every move."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from services.adapter_store.domain.alias import Aim, Alias, AliasMove, Shadow, TrafficTarget
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
        return None if row is None else alias_of(row)

    def insert(self, adapter_id: int, alias: str, aim: Aim, now: datetime) -> Alias:
        """Adds an alias whose name is new; its revision goes on from where a deleted one's ended."""
        made = Alias(alias, aim, self._last_revision(adapter_id, alias) + 1, now)
        self._connection.execute(
            insert(aliases).values(
                adapter_id=adapter_id,
                alias=alias,
                version=aim.version,
                targets=_targets_json(aim),
                shadow=_shadow_json(aim),
                revision=made.revision,
                update_time_us=to_us(now),
            )
        )
        return made

    def move(self, adapter_id: int, current: Alias, aim: Aim, now: datetime) -> Alias | None:
        """Moves the alias if it still has the revision of `current`; None if it has not."""
        query = (
            update(aliases)
            .where(
                aliases.c.adapter_id == adapter_id,
                aliases.c.alias == current.name,
                aliases.c.revision == current.revision,
            )
            .values(
                version=aim.version,
                targets=_targets_json(aim),
                shadow=_shadow_json(aim),
                revision=current.revision + 1,
                update_time_us=to_us(now),
            )
        )
        if self._connection.execute(query).rowcount != 1:
            return None
        return Alias(current.name, aim, current.revision + 1, now)

    def delete(self, adapter_id: int, current: Alias) -> bool:
        """Deletes the alias if it still has the revision of `current`; says whether it did."""
        query = delete(aliases).where(
            aliases.c.adapter_id == adapter_id,
            aliases.c.alias == current.name,
            aliases.c.revision == current.revision,
        )
        return self._connection.execute(query).rowcount == 1

    def record(
        self,
        adapter_id: int,
        alias: str,
        from_version: int,
        to: Aim | None,
        revision: int,
        now: datetime,
        moved_by: str,
    ) -> None:
        """Adds one move to the alias's history; from_version 0 is its creation, `to` None its deletion."""
        self._connection.execute(
            insert(alias_moves).values(
                adapter_id=adapter_id,
                alias=alias,
                from_version=from_version,
                to_version=0 if to is None else to.version,
                to_targets=None if to is None else _targets_json(to),
                to_shadow=None if to is None else _shadow_json(to),
                revision=revision,
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
        return [_move(row) for row in self._connection.execute(query)]

    def targets(self) -> Sequence[tuple[int, str, int]]:
        """Every version that an alias points at or shadows, as (adapter id, alias, version)."""
        return [
            (row.adapter_id, row.alias, version)
            for row in self._connection.execute(select(aliases))
            for version in alias_of(row).aim.versions
        ]

    def _last_revision(self, adapter_id: int, alias: str) -> int:
        moves = self.history(adapter_id, alias, None, 1)
        return moves[0].revision if moves else 0


def alias_of(row: Row[Any]) -> Alias:
    """The alias that a row of `aliases` holds."""
    aim = _aim(row.version, row.targets, row.shadow)
    return Alias(row.alias, aim, row.revision, from_us(row.update_time_us))


def _move(row: Row[Any]) -> AliasMove:
    to = _aim(row.to_version, row.to_targets, row.to_shadow) if row.to_version else None
    return AliasMove(row.id, row.from_version, to, row.revision, from_us(row.time_us), row.moved_by)


def _aim(version: int, targets: list[list[int]] | None, shadow: list[Any] | None) -> Aim:
    if targets is None and shadow is None:
        return Aim(version)
    return Aim(
        version,
        tuple(TrafficTarget(*target) for target in targets or ()),
        None if shadow is None else Shadow(*shadow),
    )


def _targets_json(aim: Aim) -> list[list[int]] | None:
    return [[target.version, target.weight] for target in aim.targets] or None


def _shadow_json(aim: Aim) -> list[float] | None:
    return None if aim.shadow is None else [aim.shadow.version, aim.shadow.sample_rate]
