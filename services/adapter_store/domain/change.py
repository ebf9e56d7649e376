"""A change that watchers are told of, in the order in which changes were committed."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class ChangeKind(StrEnum):
    """The names are the wire's."""

    VERSION_ACTIVE = "VERSION_ACTIVE"
    VERSION_DISABLED = "VERSION_DISABLED"
    VERSION_DELETED = "VERSION_DELETED"
    ALIAS_CHANGED = "ALIAS_CHANGED"
    ADAPTER_DELETED = "ADAPTER_DELETED"
    TENANT_UPDATED = "TENANT_UPDATED"
    TOKEN_REVOKED = "TOKEN_REVOKED"


@dataclass(frozen=True, slots=True)
class Change:
    """`resource` is a full resource name, or a token's id; `tenant` is "" where it is no tenant's."""

    sequence: int
    kind: ChangeKind
    tenant: str
    resource: str
    time: datetime
