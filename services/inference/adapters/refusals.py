"""Why residency refuses an adapter, in words that say what to do and name the asking tenant's version alone.

Must not decide anything.
"""

from services.common.errors import Code, Reason, ServiceError
from services.inference.adapters.entry import Entry
from services.inference.adapters.tenant_use import TenantUse


def too_large(entry: Entry, use: TenantUse, total_pages: int) -> ServiceError:
    """With the adapter in it, the pool would have no page left for a request."""
    return _not_loadable(
        f"{use.adapter.version_name} needs {entry.num_pages} pages and the pool has {total_pages}, "
        "of which a request needs at least one: start the server with a larger --pool-bytes"
    )


def crowded_out(entry: Entry, use: TenantUse, pinned_pages: int, total_pages: int) -> ServiceError:
    """Pinned adapters leave too little of the pool, for as long as they are pinned."""
    return _not_loadable(
        f"{use.adapter.version_name} needs {entry.num_pages} pages, and pinned adapters hold "
        f"{pinned_pages} of the pool's {total_pages}: unload a pinned adapter, or start the server with a "
        "larger --pool-bytes"
    )


def over_quota(entry: Entry, use: TenantUse, pinned_bytes: int, quota_bytes: int) -> ServiceError:
    """The tenant's quota does not hold the adapter, even with all of its others gone that are not pinned."""
    pinned = f" beside {pinned_bytes} of pinned ones" if pinned_bytes else ""
    return ServiceError(
        Code.RESOURCE_EXHAUSTED,
        Reason.QUOTA_EXCEEDED,
        f"{use.adapter.version_name} needs {entry.packed_bytes} bytes{pinned}, and max_resident_bytes of "
        f"tenants/{use.tenant} is {quota_bytes} at this server: unpin adapters, or ask an "
        "operator for more",
        retry_after_s=60.0,
        metadata={"quota": "max_resident_bytes", "limit": str(quota_bytes)},
    )


def pool_is_pinned(entry: Entry, use: TenantUse, pinned_pages: int, total_pages: int) -> ServiceError:
    """Pinning the adapter too would pin more than half of the pool."""
    return _not_loadable(
        f"with {use.adapter.version_name}, pinned adapters would hold {pinned_pages + entry.num_pages} of "
        f"the pool's {total_pages} pages, and half is the most: unload a pinned adapter, load this one "
        "without pin, or start the server with a larger --pool-bytes"
    )


def host_is_pinned(entry: Entry, use: TenantUse, pinned_bytes: int, capacity_bytes: int) -> ServiceError:
    """Pinning the adapter too would pin more than half of the host cache."""
    return _not_loadable(
        f"with {use.adapter.version_name}, pinned adapters would hold {pinned_bytes + entry.host_bytes} of "
        f"the host cache's {capacity_bytes} bytes, and half is the most: unload a pinned adapter, load this "
        "one without pin, or start the server with a larger --host-cache-bytes"
    )


def unloaded_meanwhile(use: TenantUse) -> ServiceError:
    """An unload came before the load was done."""
    return _not_loadable(
        f"{use.adapter.version_name} was unloaded before this load was done: load it again if it is wanted"
    )


def _not_loadable(message: str) -> ServiceError:
    return ServiceError(Code.FAILED_PRECONDITION, Reason.ADAPTER_NOT_LOADABLE, message)
