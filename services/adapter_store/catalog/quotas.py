"""Holds tenants to their quotas, inside the transaction that makes something."""

from collections.abc import Sequence

from services.adapter_store.domain.version import VersionFile
from services.adapter_store.metadata import UnitOfWork
from services.common.errors import Code, Reason, ServiceError

RETRY_AFTER_S = 60.0


def check_adapter_quota(uow: UnitOfWork, tenant: str) -> None:
    """Raises QUOTA_EXCEEDED unless the tenant may have one more adapter. Locks the tenant."""
    quotas = uow.tenants.lock(tenant).quotas
    if quotas.max_adapters:
        _check(tenant, "max_adapters", uow.tenants.usage(tenant).adapters + 1, quotas.max_adapters)


def check_version_quotas(uow: UnitOfWork, tenant: str, files: Sequence[VersionFile]) -> None:
    """Raises QUOTA_EXCEEDED unless the tenant may have an open upload, a version and its `files` more.

    Locks the tenant, so that of several that would fit one by one no two get past.
    """
    quotas = uow.tenants.lock(tenant).quotas
    if quotas.max_bytes:
        more = {file.sha256: file.size_bytes for file in files}
        _check(tenant, "max_bytes", uow.tenant_counts.bytes_with(tenant, more), quotas.max_bytes)
    if quotas.max_versions or quotas.max_open_uploads:
        usage = uow.tenants.usage(tenant)
        _check(tenant, "max_versions", usage.versions + 1, quotas.max_versions)
        _check(tenant, "max_open_uploads", usage.open_uploads + 1, quotas.max_open_uploads)


def check_import_quotas(uow: UnitOfWork, tenant: str, num_bytes: int) -> None:
    """Before an import's `num_bytes` are read: raises what `check_version_quotas` will, whatever they are."""
    quotas = uow.tenants.get(tenant).quotas
    _check(tenant, "max_bytes", num_bytes, quotas.max_bytes)
    if quotas.max_versions or quotas.max_open_uploads:
        usage = uow.tenants.usage(tenant)
        _check(tenant, "max_versions", usage.versions + 1, quotas.max_versions)
        _check(tenant, "max_open_uploads", usage.open_uploads + 1, quotas.max_open_uploads)


def _check(tenant: str, quota: str, wanted: int, most: int) -> None:
    if not most or wanted <= most:
        return
    raise ServiceError(
        Code.RESOURCE_EXHAUSTED,
        Reason.QUOTA_EXCEEDED,
        f"this would be {quota} {wanted} of tenants/{tenant}, whose quota is {most}: delete what is not "
        "needed, finish or abort uploads, or ask an operator for more",
        retry_after_s=RETRY_AFTER_S,
        metadata={"quota": quota, "limit": str(most)},
    )
