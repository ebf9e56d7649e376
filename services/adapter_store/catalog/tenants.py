"""Shows and changes tenants: quotas, trusted keys, whether signatures are required."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from services.adapter_store.domain.actor import STORE, Actor
from services.adapter_store.domain.change import ChangeKind
from services.adapter_store.domain.fields import quoted
from services.adapter_store.domain.tenant import (
    Quotas,
    Tenant,
    TenantUsage,
    check_quotas,
    check_trusted_keys,
)
from services.adapter_store.metadata import Database
from services.common.errors import Code, Reason, ServiceError, invalid_field

# What a tenant's own ADMIN may change, and what operators may.
OWN_FIELDS = ("trusted_keys", "require_signatures")
ALL_FIELDS = ("quotas", *OWN_FIELDS)


@dataclass(frozen=True, slots=True)
class TenantView:
    """A tenant and what it uses."""

    tenant: Tenant
    usage: TenantUsage


class Tenants:
    """Tenants, by name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, name: str, *, with_usage: bool = True) -> TenantView:
        """The tenant; a name that was never used is one without anything."""
        with self._database.read() as uow:
            usage = uow.tenants.usage(name) if with_usage else TenantUsage()
            return TenantView(uow.tenants.get(name), usage)

    def update(self, name: str, etag: str, changes: dict[str, Any], actor: Actor = STORE) -> TenantView:
        """Sets the fields in `changes` (keys from ALL_FIELDS).

        A non-empty `etag` must be the current one, else STALE_ETAG. Raises INVALID_FIELD.
        """
        checked = _checked(changes)
        with self._database.write(actor) as uow:
            current = uow.tenants.lock(name)
            if etag and etag != current.etag:
                raise _stale(etag, current)
            updated = replace(current, **checked)
            if updated != current:
                uow.tenants.save(updated)
                uow.audit.add(name, str(current), _detail(current, updated))
                uow.changes.add(ChangeKind.TENANT_UPDATED, name, str(current))
            view = TenantView(uow.tenants.get(name), uow.tenants.usage(name))
            uow.commit()
        return view


def _checked(changes: dict[str, Any]) -> dict[str, Any]:
    checked: dict[str, Any] = {}
    for field, value in changes.items():
        if field == "quotas":
            checked[field] = check_quotas(value)
        elif field == "trusted_keys":
            checked[field] = check_trusted_keys(sorted(value, key=lambda key: key.key_id))
        elif field == "require_signatures":
            checked[field] = bool(value)
        else:
            raise invalid_field(
                "update_mask", f"{quoted(field)} cannot be updated: name {', '.join(ALL_FIELDS)}"
            )
    return checked


def _detail(before: Tenant, after: Tenant) -> str:
    said = []
    if before.quotas != after.quotas:
        said.append(_quota_changes(before.quotas, after.quotas))
    if before.trusted_keys != after.trusted_keys:
        said.append("trusted keys " + (", ".join(key.key_id for key in after.trusted_keys) or "none"))
    if before.require_signatures != after.require_signatures:
        said.append(f"require_signatures {after.require_signatures}")
    return "; ".join(said)


def _quota_changes(before: Quotas, after: Quotas) -> str:
    new = asdict(after)
    return ", ".join(
        f"{quota} {old} to {new[quota]}" for quota, old in asdict(before).items() if old != new[quota]
    )


def _stale(etag: str, tenant: Tenant) -> ServiceError:
    return ServiceError(
        Code.ABORTED,
        Reason.STALE_ETAG,
        f"{tenant} was changed by somebody else (etag {tenant.etag}, not {quoted(etag)}): read it again, "
        "then repeat the update",
        field="tenant.etag",
        metadata={"etag": tenant.etag},
    )
