"""Who may do what at the adapter store, and what was done: tokens, tenants, the audit log."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Role(StrEnum):
    """READER < PUBLISHER < ADMIN."""

    ROLE_UNSPECIFIED = "ROLE_UNSPECIFIED"
    READER = "READER"
    PUBLISHER = "PUBLISHER"
    ADMIN = "ADMIN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token without its secret. `tenant` is `tenants/acme`, or `tenants/*` for one that is good in all."""

    token_id: str
    tenant: str
    role: Role
    description: str = ""
    create_time: datetime | None = None
    expire_time: datetime | None = None
    revoke_time: datetime | None = None
    created_by: str = ""


@dataclass(frozen=True, slots=True)
class CreatedToken:
    """A new token and its secret, which is shown this once."""

    secret: str
    token: Token


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotas:
    """The most that a tenant may have; 0 is no limit. The last three hold at each inference server."""

    max_bytes: int = 0
    max_adapters: int = 0
    max_versions: int = 0
    max_open_uploads: int = 0
    max_queued_requests: int = 0
    max_tokens_per_minute: int = 0
    max_resident_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantUsage:
    """What a tenant has."""

    bytes: int = 0
    adapters: int = 0
    versions: int = 0
    open_uploads: int = 0


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """An Ed25519 public key whose signatures a tenant trusts."""

    key_id: str
    public_key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """A tenant; `etag` changes with every update."""

    name: str
    quotas: Quotas = Quotas()
    usage: TenantUsage = TenantUsage()
    trusted_keys: tuple[TrustedKey, ...] = ()
    require_signatures: bool = False
    etag: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One change: who made it, when, and by which RPC."""

    time: datetime | None
    actor: str
    action: str
    resource: str
    detail: str = ""
