"""How many bytes of the pool each tenant's adapters hold, against the tenant's quota of resident bytes.

Bookkeeping alone: must not know pages, nor why an adapter wants in. An adapter that several tenants use
counts in full for each of them, from when it came in for the tenant until it leaves or is given up.
"""

from collections import Counter
from collections.abc import Iterable

from services.common.errors import ServiceError
from services.inference.adapters import refusals
from services.inference.adapters.entry import Entry
from services.inference.adapters.tenant_use import TenantUse
from services.inference.messages import ResidencyState
from services.inference.request import AdapterKey


class TenantRoom:
    """The adapters in the pool by tenant, least recently used first. Without a quota there is no limit."""

    def __init__(self) -> None:
        self._quotas: dict[str, int] = {}
        self._held: dict[str, dict[AdapterKey, Entry]] = {}
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

    def refusal(self, entry: Entry, use: TenantUse) -> ServiceError | None:
        """Why `entry` cannot come in for the tenant, whatever else of its leaves that it has not pinned."""
        quota = self._quotas.get(use.tenant)
        if quota is None:
            return None
        held = self._held.get(use.tenant, {}).values()
        pinned = (each for each in held if each.uses[use.tenant].pin is ResidencyState.DEVICE)
        pinned_bytes = sum(each.packed_bytes for each in pinned)
        if entry.packed_bytes + pinned_bytes <= quota:
            return None
        return refusals.over_quota(entry, use, pinned_bytes, quota)

    def must_leave(self, entry: Entry, tenant: str, *, wanted_too: bool = True) -> list[Entry] | None:
        """Which of its own the tenant gives up to make room for `entry` in its quota; None if they do not.

        Those that somebody waits for go last, and not at all unless `wanted_too`.
        """
        quota = self._quotas.get(tenant)
        if quota is None:
            return []
        over_bytes = self._bytes[tenant] + entry.packed_bytes - quota
        chosen: list[Entry] = []
        for each in self._idle(tenant) if over_bytes > 0 else ():
            if over_bytes <= 0 or (each.is_wanted and not wanted_too):
                break
            chosen.append(each)
            over_bytes -= each.packed_bytes
        return chosen if over_bytes <= 0 else None

    def _idle(self, tenant: str) -> list[Entry]:
        held = self._held.get(tenant, {}).values()
        idle = [each for each in held if _is_idle(each, each.uses[tenant])]
        return sorted(idle, key=lambda each: each.is_wanted)

    def add(self, entry: Entry, use: TenantUse) -> None:
        """Counts `entry`, which is in the pool, for the tenant."""
        use.is_in_pool = True
        self._held.setdefault(use.tenant, {})[entry.key] = entry
        self._bytes[use.tenant] += entry.packed_bytes

    def remove(self, entry: Entry, use: TenantUse) -> None:
        """Counts `entry` for the tenant no more."""
        use.is_in_pool = False
        held = self._held[use.tenant]
        del held[entry.key]
        self._bytes[use.tenant] -= entry.packed_bytes
        if not held:
            del self._held[use.tenant], self._bytes[use.tenant]

    def touch(self, entry: Entry, use: TenantUse) -> None:
        """Makes `entry` the most recently used of the tenant's."""
        if use.is_in_pool:
            held = self._held[use.tenant]
            held[entry.key] = held.pop(entry.key)

    def check_integrity(self, entries: Iterable[Entry]) -> None:
        """Raises AssertionError unless exactly what is in the pool is counted, once for each tenant."""
        in_pool = {
            (use.tenant, entry.key): entry.packed_bytes
            for entry in entries
            for use in entry.uses.values()
            if use.is_in_pool
        }
        held = {(tenant, key) for tenant, keys in self._held.items() for key in keys}
        assert held == in_pool.keys(), "not what is in the pool"
        by_tenant: Counter[str] = Counter()
        for (tenant, _), size in in_pool.items():
            by_tenant[tenant] += size
        assert by_tenant == self._bytes, "bytes of tenants"

    def __repr__(self) -> str:
        held = f"tenants={len(self._bytes)}, bytes={self._bytes.total()}"
        return f"TenantRoom({held}, quotas={len(self._quotas)})"


def _is_idle(entry: Entry, use: TenantUse) -> bool:
    is_pinned = use.pin is ResidencyState.DEVICE
    return entry.state is ResidencyState.DEVICE and not use.running and not is_pinned
