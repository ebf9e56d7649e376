"""Rows of the audit log: one for each change, written in the change's own transaction."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, func, insert, select

from services.adapter_store.domain.actor import Actor
from services.adapter_store.domain.audit_entry import AuditEntry
from services.adapter_store.domain.audit_filter import AuditFilter
from services.adapter_store.metadata.tables import audit_log
from services.adapter_store.metadata.timestamps import from_us, to_us


class AuditRows:
    """Who changed what. What `add` takes is written by `flush`, right before the commit."""

    def __init__(self, connection: Connection, actor: Actor) -> None:
        self._connection = connection
        self._actor = actor
        self._added: list[dict[str, str]] = []

    def add(self, tenant: str, resource: str, detail: str = "") -> None:
        """Notes that `resource` was changed; `detail` is for people to read, and never a secret."""
        self._added.append({"tenant": tenant, "resource": resource, "detail": detail})

    def flush(self, now: datetime) -> None:
        """Writes what was added."""
        if self._added:
            common = {"time_us": to_us(now), "actor": self._actor.name, "action": self._actor.action}
            self._connection.execute(insert(audit_log), [{**common, **row} for row in self._added])
            self._added.clear()

    def page(
        self, tenant: str | None, before: int | None, limit: int, wanted: AuditFilter
    ) -> Sequence[AuditEntry]:
        """Up to `limit` of the entries that are wanted, newest first, of one tenant or of all."""
        query = select(audit_log).order_by(audit_log.c.id.desc()).limit(limit)
        if tenant is not None:
            query = query.where(audit_log.c.tenant == tenant)
        if before is not None:
            query = query.where(audit_log.c.id < before)
        if prefix := wanted.resource_prefix:
            # Not LIKE, which takes no account of case in SQLite.
            query = query.where(func.substr(audit_log.c.resource, 1, len(prefix)) == prefix)
        if wanted.start is not None:
            query = query.where(audit_log.c.time_us >= to_us(wanted.start))
        if wanted.end is not None:
            query = query.where(audit_log.c.time_us < to_us(wanted.end))
        return [
            AuditEntry(row.id, from_us(row.time_us), row.actor, row.action, row.resource, row.detail)
            for row in self._connection.execute(query)
        ]
