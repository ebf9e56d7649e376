"""Rows of changes, numbered in the order of their commits."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, insert, select, update

from services.adapter_store.domain.change import Change, ChangeKind
from services.adapter_store.metadata.tables import change_counter, changes
from services.adapter_store.metadata.timestamps import from_us, to_us

_COUNTER_ID = 1


class ChangeRows:
    """Changes by sequence. What `add` takes is written by `flush`, right before the commit."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._added: list[tuple[ChangeKind, str, str]] = []

    def add(self, kind: ChangeKind, tenant: str, resource: str) -> None:
        """Notes a change of this unit of work."""
        self._added.append((kind, tenant, resource))

    def flush(self, now: datetime) -> None:
        """Numbers and writes what was added. Locks the counter: commit at once."""
        if not self._added:
            return
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
        self._added.clear()

    def last_sequence(self) -> int:
        """The number of the last change; 0 before the first."""
        query = select(change_counter.c.last_sequence).where(change_counter.c.id == _COUNTER_ID)
        return int(self._connection.execute(query).scalar_one())

    def after(self, sequence: int, limit: int) -> Sequence[Change]:
        """Up to `limit` changes after `sequence`, in order."""
        query = select(changes).where(changes.c.sequence > sequence).order_by(changes.c.sequence).limit(limit)
        return [
            Change(row.sequence, ChangeKind(row.kind), row.tenant, row.resource, from_us(row.time_us))
            for row in self._connection.execute(query)
        ]
