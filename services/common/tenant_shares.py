"""So many places for each tenant, so that whoever asks for much waits for itself and not before others.

Must not know what the places are of.
"""

import asyncio
import weakref


class TenantShares:
    """`most_of_one` places for each tenant."""

    def __init__(self, most_of_one: int) -> None:
        self._most_of_one = most_of_one
        # Each lives as long as somebody has, or waits for, a place of the tenant's.
        self._shares: weakref.WeakValueDictionary[str, asyncio.Semaphore] = weakref.WeakValueDictionary()

    def of(self, tenant: str) -> asyncio.Semaphore:
        """The tenant's own: keep it for as long as you wait for a place or have one."""
        return self._shares.setdefault(tenant, asyncio.Semaphore(self._most_of_one))

    def __repr__(self) -> str:
        return f"TenantShares({len(self._shares)} tenants, {self._most_of_one} places each)"
