"""Who calls: what a token says of its holder, or what is assumed where access control is off.

Must not know RPCs or where tokens are kept.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

# The tenant of tokens that are good in every tenant: those of operators and services.
EVERY_TENANT = "*"


class Role(StrEnum):
    """READER < PUBLISHER < ADMIN; the names are the wire's."""

    READER = "READER"
    PUBLISHER = "PUBLISHER"
    ADMIN = "ADMIN"

    def includes(self, needed: "Role") -> bool:
        """Whether whoever has this role may do what `needed` may."""
        order = list(Role)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True, slots=True)
class Caller:
    """`name` is a token's id, or the peer's address where access control is off."""

    name: str
    tenant: str
    role: Role
    # When the token behind it stops being good; None: never.
    expire_time: datetime | None = None

    @property
    def is_operator(self) -> bool:
        """Whether the caller may enter every tenant."""
        return self.tenant == EVERY_TENANT

    @property
    def only_tenant(self) -> str | None:
        """The one tenant whose things the caller may see; None: all."""
        return None if self.is_operator else self.tenant

    def may_enter(self, tenant: str) -> bool:
        """Whether the caller may know of anything in `tenant`."""
        return self.is_operator or self.tenant == tenant


def anyone(peer: str) -> Caller:
    """The caller where access control is off: whoever reaches the server may do everything."""
    return Caller(peer, EVERY_TENANT, Role.ADMIN)
