"""Rows of tenants and their trusted keys, and what each tenant uses."""

import base64
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import Connection, Select, delete, func, insert, select, update

from services.adapter_store.domain.tenant import Quotas, Tenant, TenantUsage, TrustedKey
from services.adapter_store.domain.upload import UploadState
from services.adapter_store.domain.version import VersionState
from services.adapter_store.metadata.insertion import insert_if_absent
from services.adapter_store.metadata.tables import (
    adapters,
    tenants,
    trusted_keys,
    uploads,
    version_files,
    versions,
)

# What a version takes counts until it failed or was deleted.
_COUNTED = (VersionState.CREATING.value, VersionState.ACTIVE.value, VersionState.DISABLED.value)
_QUOTAS = tuple(field.name for field in fields(Quotas))


class TenantRows:
    """Tenants by name; one without a row has the defaults."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, name: str) -> Tenant:
        """The tenant."""
        return self._read(select(tenants).where(tenants.c.tenant == name), name)

    def lock(self, name: str) -> Tenant:
        """The tenant, whom no other transaction can lock or change before this one ends."""
        return self._read(select(tenants).where(tenants.c.tenant == name).with_for_update(), name)

    def save(self, tenant: Tenant) -> bool:
        """Writes `tenant` if the row still has its revision; says whether it did."""
        values = {
            **asdict(tenant.quotas),
            "require_signatures": tenant.require_signatures,
            "revision": tenant.revision + 1,
        }
        if not self._write(tenant, values):
            return False
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
        return True

    def _write(self, tenant: Tenant, values: dict[str, Any]) -> bool:
        if tenant.revision:
            where = (tenants.c.tenant == tenant.name, tenants.c.revision == tenant.revision)
            return self._connection.execute(update(tenants).where(*where).values(**values)).rowcount == 1
        return insert_if_absent(self._connection, tenants, {"tenant": tenant.name, **values})

    def usage(self, name: str) -> TenantUsage:
        """What the tenant has now."""
        of_tenant = adapters.c.tenant == name
        in_use = (
            select(func.count())
            .select_from(versions.join(adapters))
            .where(of_tenant, versions.c.state.in_(_COUNTED))
        )
        open_uploads = (
            select(func.count())
            .select_from(uploads.join(adapters))
            .where(of_tenant, uploads.c.state == UploadState.OPEN.value)
        )
        live = select(func.count()).where(of_tenant, adapters.c.delete_time_us.is_(None))
        return TenantUsage(
            bytes=self.bytes_with(name, {}),
            adapters=self._count(live),
            versions=self._count(in_use),
            open_uploads=self._count(open_uploads),
        )

    def bytes_with(self, name: str, more: dict[str, int]) -> int:
        """The tenant's bytes if it had the blobs of `more` (sha256 to size) as well; each counts once."""
        files = (
            select(version_files.c.sha256, func.max(version_files.c.size_bytes).label("size_bytes"))
            .join(
                versions,
                (versions.c.adapter_id == version_files.c.adapter_id)
                & (versions.c.version == version_files.c.version),
            )
            .join(adapters, adapters.c.id == versions.c.adapter_id)
            .where(adapters.c.tenant == name, versions.c.state.in_(_COUNTED))
            .group_by(version_files.c.sha256)
            .subquery()
        )
        held = self._count(select(func.coalesce(func.sum(files.c.size_bytes), 0)))
        known = select(files.c.sha256).where(files.c.sha256.in_(more))
        already = {row.sha256 for row in self._connection.execute(known)} if more else set()
        return held + sum(size for sha256, size in more.items() if sha256 not in already)

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
