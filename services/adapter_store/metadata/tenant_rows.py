"""Rows of tenants and their trusted keys, and what each tenant uses."""

import base64
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import Connection, Select, delete, func, insert, select, update

from services.adapter_store.domain.tenant import Quotas, Tenant, TenantUsage, TrustedKey
from services.adapter_store.domain.upload import UploadState
from services.adapter_store.metadata.insertion import insert_if_absent
from services.adapter_store.metadata.tables import (
    adapters,
    tenants,
    trusted_keys,
    uploads,
)
from services.adapter_store.metadata.tenant_count_rows import TenantCountRows

_QUOTAS = tuple(field.name for field in fields(Quotas))
_DEFAULTS = {
    **asdict(Quotas()),
    "require_signatures": False,
    "revision": 0,
    "held_bytes": 0,
    "held_versions": 0,
}


class TenantRows:
    """Tenants by name; one without a row has the defaults and nothing."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, name: str) -> Tenant:
        """The tenant."""
        return self._read(select(tenants).where(tenants.c.tenant == name), name)

    def lock(self, name: str) -> Tenant:
        """The tenant, whom no other transaction can lock or change before this one ends. Makes its row."""
        query = select(tenants).where(tenants.c.tenant == name).with_for_update()
        if self._connection.execute(query).first() is None:
            insert_if_absent(self._connection, tenants, {"tenant": name, **_DEFAULTS})
        return self._read(query, name)

    def save(self, tenant: Tenant) -> None:
        """Writes `tenant`, which this transaction has locked."""
        values = {
            **asdict(tenant.quotas),
            "require_signatures": tenant.require_signatures,
            "revision": tenant.revision + 1,
        }
        query = update(tenants).where(tenants.c.tenant == tenant.name, tenants.c.revision == tenant.revision)
        assert self._connection.execute(query.values(values)).rowcount == 1, f"{tenant} is not locked"
        self._connection.execute(delete(trusted_keys).where(trusted_keys.c.tenant == tenant.name))
        if tenant.trusted_keys:
            self._connection.execute(
                insert(trusted_keys),
                [
                    {
                        "tenant": tenant.name,
                        "key_id": key.key_id,
                        "public_key": base64.b64encode(key.public_key).decode(),
                    }
                    for key in tenant.trusted_keys
                ],
            )

    def usage(self, name: str) -> TenantUsage:
        """What the tenant has now."""
        of_tenant = adapters.c.tenant == name
        num_bytes, num_versions = TenantCountRows(self._connection).of(name)
        open_uploads = (
            select(func.count())
            .select_from(uploads.join(adapters))
            .where(of_tenant, uploads.c.state == UploadState.OPEN.value)
        )
        live = select(func.count()).where(of_tenant, adapters.c.delete_time_us.is_(None))
        return TenantUsage(
            bytes=num_bytes,
            adapters=self._count(live),
            versions=num_versions,
            open_uploads=self._count(open_uploads),
        )

    def _count(self, query: Select[Any]) -> int:
        return int(self._connection.execute(query).scalar_one())

    def _read(self, query: Select[Any], name: str) -> Tenant:
        row = self._connection.execute(query).first()
        if row is None:
            return Tenant(name)
        key_query = select(trusted_keys).where(trusted_keys.c.tenant == name).order_by(trusted_keys.c.key_id)
        return Tenant(
            name=name,
            quotas=Quotas(**{quota: getattr(row, quota) for quota in _QUOTAS}),
            trusted_keys=tuple(
                TrustedKey(key.key_id, base64.b64decode(key.public_key))
                for key in self._connection.execute(key_query)
            ),
            require_signatures=row.require_signatures,
            revision=row.revision,
        )
