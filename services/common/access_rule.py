"""What an RPC asks of its caller, as data: a service's table has one row for each of its RPCs.

Must not know any RPC. docs/access.md is generated from the tables.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from services.common.caller import Role
from services.common.errors import ServiceError


class Scope(StrEnum):
    """Which tenants a caller's token must be good in."""

    # Any: what is shown is no tenant's, or only what the caller may see.
    ANY = "any token"
    # That of what the request names; to others it is not there.
    TENANT = "its tenant"
    # All: the token is one of operators and services.
    OPERATORS = "tenants/*"


@dataclass(frozen=True, slots=True)
class Rule:
    """One row. With TENANT, `field` of the request names the tenant by way of a `kind` of name.

    `lasting`: the call may go on for hours, so the token is looked at again while its stream does.
    `most_open`: so many of the RPC's streams one tenant may have open at a server; 0 is no bound.
    """

    role: Role
    scope: Scope
    kind: str = ""
    field: str = ""
    lasting: bool = False
    most_open: int = 0


Rules = Mapping[str, Rule]


@dataclass(frozen=True, slots=True)
class Place:
    """Where what a request names belongs, and what is said to callers who may not know of it.

    `missing` has the words that a name gets which exists nowhere.
    """

    tenant: str
    missing: ServiceError


def anywhere(role: Role) -> Rule:
    """Any token of that role."""
    return Rule(role, Scope.ANY)


def operators(role: Role) -> Rule:
    """A token of that role that is good in every tenant."""
    return Rule(role, Scope.OPERATORS)


def inside(role: Role, kind: str, field: str, *, lasting: bool = False, most_open: int = 0) -> Rule:
    """A token of that role in the tenant of what `field` names."""
    return Rule(role, Scope.TENANT, kind, field, lasting, most_open)
