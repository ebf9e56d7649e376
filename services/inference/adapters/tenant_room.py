"""How many bytes of the pool each tenant's adapters hold, against the tenant's quota of resident bytes.

Bookkeeping alone: must not know pages, nor why an adapter wants in. An adapter counts for the tenant in the
name that it had when it was placed, until it leaves.
"""

from collections import Counter
from collections.abc import Collection, Iterable

from services.common.errors import ServiceError
from services.inference.adapters import refusals
from services.inference.adapters.entry import ON_DEVICE, Entry
from services.inference.request import AdapterKey


class TenantRoom:
    """The adapters in the pool by tenant. A tenant without a quota has no limit."""

    def __init__(self) -> None:
        self._quotas: dict[str, int] = {}
        self._held: dict[AdapterKey, tuple[str, int]] = {}
        self._bytes: Counter[str] = Counter()

    def set_quota(self, tenant: str, max_bytes: int) -> None:
        """From now on; 0 is no limit. What is in the pool stays until something else wants in."""
        if max_bytes:
            self._quotas[tenant] = max_bytes
        else:
            self._quotas.pop(tenant, None)

    def has_quota(self, tenant: str) -> bool:
        """Whether there is a limit."""
        return tenant in self._quotas

    def refusal(self, entry: Entry, pinned: Collection[AdapterKey]) -> ServiceError | None:
        """Why `entry` cannot come in, whoever else of its tenant leaves that is not `pinned`."""
        tenant = entry.adapter.tenant
        quota = self._quotas.get(tenant)
        if quota is None:
            return None
        pinned_bytes = sum(size for owner, size in (self._held[key] for key in pinned) if owner == tenant)
        if entry.packed_bytes + pinned_bytes <= quota:
            return None
        return refusals.over_quota(entry, pinned_bytes, quota)

    def must_leave(self, entry: Entry, idle: Iterable[Entry]) -> list[Entry] | None:
        """Who of `idle`, in this order, makes room for `entry` in its tenant's quota; None if they do not."""
        tenant = entry.adapter.tenant
        quota = self._quotas.get(tenant)
        if quota is None:
            return []
        over_bytes = self._bytes[tenant] + entry.packed_bytes - quota
        chosen: list[Entry] = []
        for each in idle:
            if over_bytes <= 0:
                break
            owner, size = self._held[each.key]
            if owner == tenant:
                chosen.append(each)
                over_bytes -= size
        return chosen if over_bytes <= 0 else None

    def add(self, entry: Entry) -> None:
        """Counts `entry`, which was placed."""
        tenant = entry.adapter.tenant
        self._held[entry.key] = tenant, entry.packed_bytes
        self._bytes[tenant] += entry.packed_bytes

    def remove(self, entry: Entry) -> None:
        """Counts `entry` no more: it has left the pool."""
        tenant, size = self._held.pop(entry.key)
        self._bytes[tenant] -= size
        if not self._bytes[tenant]:
            del self._bytes[tenant]

    def check_integrity(self, entries: Iterable[Entry]) -> None:
        """Raises AssertionError unless exactly what is in the pool is counted, each once."""
        placed = {entry.key: entry.packed_bytes for entry in entries if entry.state in ON_DEVICE}
        assert {key: size for key, (_, size) in self._held.items()} == placed, "not what is in the pool"
        by_tenant: Counter[str] = Counter()
        for tenant, size in self._held.values():
            by_tenant[tenant] += size
        assert {t: n for t, n in by_tenant.items() if n} == dict(self._bytes), "bytes of tenants"

    def __repr__(self) -> str:
        held = f"tenants={len(self._bytes)}, bytes={self._bytes.total()}"
        return f"TenantRoom({held}, quotas={len(self._quotas)})"
