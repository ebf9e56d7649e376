"""A tenant: its quotas, what it uses of them, and whose signatures it trusts."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields

from services.adapter_store.domain.fields import check_range, quoted
from services.common.errors import invalid_field

MAX_TRUSTED_KEYS = 64
PUBLIC_KEY_BYTES = 32
_KEY_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True)
class Quotas:
    """The most that a tenant may have; 0 is no limit. The last three hold at each inference server."""

    max_bytes: int = 0
    max_adapters: int = 0
    max_versions: int = 0
    max_open_uploads: int = 0
    max_queued_requests: int = 0
    max_tokens_per_minute: int = 0
    max_resident_bytes: int = 0


@dataclass(frozen=True, slots=True)
class TenantUsage:
    """What a tenant has. Bytes that several of its versions share count once."""

    bytes: int = 0
    adapters: int = 0
    versions: int = 0
    open_uploads: int = 0


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """An Ed25519 public key whose signatures the tenant trusts."""

    key_id: str
    public_key: bytes


@dataclass(frozen=True, slots=True)
class Tenant:
    """One tenant. Every name is one: without a row it has the defaults, and `revision` 0."""

    name: str
    quotas: Quotas = Quotas()
    trusted_keys: tuple[TrustedKey, ...] = ()
    require_signatures: bool = False
    revision: int = 0

    def __str__(self) -> str:
        return f"tenants/{self.name}"

    @property
    def etag(self) -> str:
        """Changes with every update."""
        return f"r{self.revision}"


def check_quotas(quotas: Quotas) -> Quotas:
    """`quotas` if none is negative. Raises INVALID_FIELD."""
    for field in fields(quotas):
        check_range(getattr(quotas, field.name), f"tenant.quotas.{field.name}", low=0, high=(1 << 63) - 1)
    return quotas


def check_trusted_keys(keys: Sequence[TrustedKey]) -> tuple[TrustedKey, ...]:
    """`keys` if each can be one and no id is used twice. Raises INVALID_FIELD."""
    check_range(len(keys), "tenant.trusted_keys", low=0, high=MAX_TRUSTED_KEYS)
    for key in keys:
        if not _KEY_ID.fullmatch(key.key_id):
            raise invalid_field(
                "tenant.trusted_keys.key_id",
                f"{quoted(key.key_id)} is no key id: a-z or 0-9, then up to 62 of a-z 0-9 . _ -",
            )
        if len(key.public_key) != PUBLIC_KEY_BYTES:
            raise invalid_field(
                "tenant.trusted_keys.public_key",
                f"{quoted(key.key_id)} has {len(key.public_key)} bytes: give the {PUBLIC_KEY_BYTES} of an "
                "Ed25519 public key",
            )
    if len({key.key_id for key in keys}) < len(keys):
        raise invalid_field("tenant.trusted_keys.key_id", "a key id is there twice: give each key its own")
    return tuple(keys)
