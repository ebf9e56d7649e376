"""What each tenant's versions hold, counted as they come and go, so that no quota has to look at all of them.

A version counts until it failed or was deleted; bytes that several versions of a tenant share count once. Who
changes a count has the tenant locked: see TenantRows.lock.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, delete, func, insert, select, update

from services.adapter_store.domain.version import VersionFile, VersionState
from services.adapter_store.metadata.tables import adapters, tenant_files, tenants, version_files, versions

COUNTED = (VersionState.CREATING, VersionState.ACTIVE, VersionState.DISABLED)
_COUNTED = versions.c.state.in_([state.value for state in COUNTED])
_FILES = versions.join(adapters, adapters.c.id == versions.c.adapter_id).join(
    version_files,
    (version_files.c.adapter_id == versions.c.adapter_id) & (version_files.c.version == versions.c.version),
)


class TenantCountRows:
    """Bytes and versions by tenant."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def of(self, tenant: str) -> tuple[int, int]:
        """The tenant's (bytes, versions)."""
        query = select(tenants.c.held_bytes, tenants.c.held_versions).where(tenants.c.tenant == tenant)
        row = self._connection.execute(query).first()
        return (0, 0) if row is None else (row.held_bytes, row.held_versions)

    def bytes_with(self, tenant: str, more: Mapping[str, int]) -> int:
        """The tenant's bytes if it had the blobs of `more` (sha256 to size) as well; each counts once."""
        query = select(tenant_files.c.sha256).where(
            tenant_files.c.tenant == tenant, tenant_files.c.sha256.in_(more)
        )
        already = {row.sha256 for row in self._connection.execute(query)} if more else set()
        return self.of(tenant)[0] + sum(size for sha256, size in more.items() if sha256 not in already)

    def add(self, tenant: str, files: Iterable[VersionFile]) -> None:
        """Counts a new version of these files."""
        new_bytes = 0
        for file in sorted({file.sha256: file for file in files}.values(), key=lambda file: file.sha256):
            where = _row(tenant, file.sha256)
            known = self._connection.execute(select(tenant_files.c.size_bytes).where(where)).first()
            if known is None:
                values = {"size_bytes": file.size_bytes, "num_versions": 1}
                row = {"tenant": tenant, "sha256": file.sha256, **values}
                self._connection.execute(insert(tenant_files).values(row))
                new_bytes += file.size_bytes
                continue
            # What was declared may be wrong until the bytes have come: the larger counts.
            size_bytes = max(known.size_bytes, file.size_bytes)
            more = {"num_versions": tenant_files.c.num_versions + 1, "size_bytes": size_bytes}
            self._connection.execute(update(tenant_files).where(where).values(more))
            new_bytes += size_bytes - known.size_bytes
        self._move(tenant, new_bytes, 1)

    def drop(self, tenant: str, adapter_id: int, version: int | None) -> None:
        """Counts the version (None: all of the adapter) no more. To be called while it still counts."""
        meant: ColumnElement[bool] = (versions.c.adapter_id == adapter_id) & _COUNTED
        if version is not None:
            meant &= versions.c.version == version
        count = select(func.count()).select_from(versions).where(meant)
        num_versions = int(self._connection.execute(count).scalar_one())
        uses = func.count(versions.c.version.distinct()).label("num_uses")
        query = select(version_files.c.sha256, uses).select_from(_FILES).where(meant)
        gone = self._connection.execute(query.group_by(version_files.c.sha256).order_by("sha256")).all()
        if gone:
            less = (
                update(tenant_files)
                .where(tenant_files.c.tenant == tenant, tenant_files.c.sha256 == bindparam("digest"))
                .values(num_versions=tenant_files.c.num_versions - bindparam("num_uses"))
            )
            rows = [{"digest": row.sha256, "num_uses": row.num_uses} for row in gone]
            self._connection.execute(less, rows)
        self._move(tenant, -self._drop_unused(tenant), -num_versions)

    def _drop_unused(self, tenant: str) -> int:
        unused = (tenant_files.c.tenant == tenant) & (tenant_files.c.num_versions <= 0)
        size = select(func.coalesce(func.sum(tenant_files.c.size_bytes), 0)).where(unused)
        freed_bytes = int(self._connection.execute(size).scalar_one())
        self._connection.execute(delete(tenant_files).where(unused))
        return freed_bytes

    def _move(self, tenant: str, num_bytes: int, num_versions: int) -> None:
        values: dict[str, Any] = {
            "held_bytes": tenants.c.held_bytes + num_bytes,
            "held_versions": tenants.c.held_versions + num_versions,
        }
        query = update(tenants).where(tenants.c.tenant == tenant).values(values)
        assert self._connection.execute(query).rowcount == 1, "the tenant is locked, so it has a row"

    def counted(self) -> dict[str, tuple[int, int]]:
        """Every tenant's (bytes, versions), as they were counted; those that have nothing are left out."""
        query = select(tenants.c.tenant, tenants.c.held_bytes, tenants.c.held_versions)
        rows = self._connection.execute(query)
        return {r.tenant: (r.held_bytes, r.held_versions) for r in rows if r.held_bytes or r.held_versions}

    def recounted(self) -> dict[str, tuple[int, int]]:
        """The same, counted anew: versions from themselves, bytes from the files that were counted."""
        query = (
            select(adapters.c.tenant, func.count().label("num_versions"))
            .select_from(versions.join(adapters, adapters.c.id == versions.c.adapter_id))
            .where(_COUNTED)
            .group_by(adapters.c.tenant)
        )
        num_versions = {row.tenant: row.num_versions for row in self._connection.execute(query)}
        size = func.sum(tenant_files.c.size_bytes).label("num_bytes")
        sizes = select(tenant_files.c.tenant, size).group_by(tenant_files.c.tenant)
        num_bytes = {row.tenant: int(row.num_bytes) for row in self._connection.execute(sizes)}
        everybody = num_versions.keys() | num_bytes.keys()
        return {each: (num_bytes.get(each, 0), num_versions.get(each, 0)) for each in everybody}

    def wrong_files(self) -> list[tuple[str, str]]:
        """(tenant, sha256) of files that other than the counted versions refer to, or that are larger."""
        each = (
            select(
                adapters.c.tenant,
                version_files.c.sha256,
                func.max(version_files.c.size_bytes).label("size_bytes"),
            )
            .select_from(_FILES)
            .where(_COUNTED)
            .group_by(adapters.c.tenant, version_files.c.sha256, versions.c.adapter_id, versions.c.version)
            .subquery()
        )
        size, count = func.max(each.c.size_bytes).label("size_bytes"), func.count().label("num_versions")
        query = select(each.c.tenant, each.c.sha256, size, count).group_by(each.c.tenant, each.c.sha256)
        anew = {(r.tenant, r.sha256): r for r in self._connection.execute(query)}
        counted = {(r.tenant, r.sha256): r for r in self._connection.execute(select(tenant_files))}
        return sorted(
            key
            for key in anew.keys() | counted.keys()
            if key not in anew
            or key not in counted
            or anew[key].num_versions != counted[key].num_versions
            or anew[key].size_bytes > counted[key].size_bytes
        )


def _row(tenant: str, sha256: str) -> ColumnElement[bool]:
    return (tenant_files.c.tenant == tenant) & (tenant_files.c.sha256 == sha256)
