"""Rows of changes, numbered in the order of their commits."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, delete, func, insert, select, update

from services.adapter_store.domain.change import Change, ChangeKind
from services.adapter_store.domain.resume_token import Position
from services.adapter_store.metadata.tables import change_counter, changes
from services.adapter_store.metadata.timestamps import from_us, to_us

_COUNTER_ID = 1
NOTIFY_CHANNEL = "multilora_changes"


class ChangeRows:
    """Changes by sequence. What `add` takes is written by `flush`, right before the commit."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._added: list[tuple[ChangeKind, str, str]] = []

    def add(self, kind: ChangeKind, tenant: str, resource: str) -> None:
        """Notes a change of this unit of work."""
        self._added.append((kind, tenant, resource))

    def flush(self, now: datetime) -> bool:
        """Numbers and writes what was added; says whether that was anything.

        Locks the counter: commit at once.
        """
        if not self._added:
            return False
        query = (
            update(change_counter)
            .where(change_counter.c.id == _COUNTER_ID)
            .values(last_sequence=change_counter.c.last_sequence + len(self._added))
            .returning(change_counter.c.last_sequence)
        )
        last = self._connection.execute(query).scalar_one()
        first = last - len(self._added) + 1
        rows = [
            {"sequence": first + i, "kind": kind.value, "tenant": tenant, "resource": resource}
            for i, (kind, tenant, resource) in enumerate(self._added)
        ]
        self._connection.execute(insert(changes), [{**row, "time_us": to_us(now)} for row in rows])
        if self._connection.dialect.name == "postgresql":
            # Heard by every replica when, and only if, the transaction commits.
            self._connection.execute(select(func.pg_notify(NOTIFY_CHANNEL, "")))
        self._added.clear()
        return True

    def now(self) -> Position:
        """After the last change there is."""
        row = self._connection.execute(select(change_counter).where(change_counter.c.id == _COUNTER_ID)).one()
        return Position(row.database_id, row.last_sequence)

    def oldest(self) -> int | None:
        """The number of the oldest change that is kept; None if none is."""
        number: int | None = self._connection.execute(select(func.min(changes.c.sequence))).scalar_one()
        return number

    def between(self, after: int, last: int, tenant: str | None, limit: int) -> Sequence[Change]:
        """Up to `limit` changes after `after` up to `last`, in order; of one tenant or of all."""
        query = (
            select(changes)
            .where(changes.c.sequence > after, changes.c.sequence <= last)
            .order_by(changes.c.sequence)
            .limit(limit)
        )
        if tenant is not None:
            query = query.where(changes.c.tenant == tenant)
        return [
            Change(row.sequence, ChangeKind(row.kind), row.tenant, row.resource, from_us(row.time_us))
            for row in self._connection.execute(query)
        ]

    def trim(self, before: datetime) -> int:
        """Deletes the changes up to the last one made before this time; says how many."""
        # By number, not by time: replicas' clocks differ, and what is kept must have no gap.
        last = select(func.max(changes.c.sequence)).where(changes.c.time_us < to_us(before))
        number = self._connection.execute(last).scalar_one()
        if number is None:
            return 0
        return self._connection.execute(delete(changes).where(changes.c.sequence <= number)).rowcount
