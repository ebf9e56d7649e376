"""One line of the audit log."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Who changed what, when, and by which RPC. `id` is the store's own and never leaves it."""

    id: int
    time: datetime
    actor: str
    action: str
    resource: str
    detail: str
