"""Keeps the bytes of every adapter that is here, or on its way, in the store: by leases that it renews.

A lease is a favour to this server, never a condition: without the store everything goes on. Must not know the
wire, nor why an adapter is here.
"""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from typing import Protocol

from services.common.errors import ServiceError
from services.inference.messages import AdapterInfo

log = logging.getLogger(__name__)

TTL_S = 60
# The store takes no more in one lease.
MAX_KEYS = 50_000
# So long the keys of a burst of new adapters are collected for one call.
GATHER_S = 0.05
RELEASE_TIMEOUT_S = 2.0


class LeaseStore(Protocol):
    """Where leases are held."""

    async def acquire_lease(self, lease_id: str, holder: str, keys: Sequence[str], ttl_s: int) -> None:
        """Makes or renews the lease, with exactly these keys. Raises ServiceError."""
        ...

    async def release_lease(self, lease_id: str) -> None:
        """Ends the lease. Raises ServiceError."""
        ...


class LeaseKeeper:
    """One run of a server. `run` renews at a third of the ttl; keys that are `note`d are leased at once."""

    def __init__(
        self,
        store: LeaseStore,
        list_resident: Callable[[], Awaitable[Collection[AdapterInfo]]],
        holder: str,
        ttl_s: int = TTL_S,
        gather_s: float = GATHER_S,
    ) -> None:
        self._store = store
        self._list_resident = list_resident
        self._holder = holder
        self._ttl_s = ttl_s
        self._gather_s = gather_s
        self._name = f"serve-{uuid.uuid4().hex}"
        self._held: frozenset[str] = frozenset()
        # Noted since the last renewal, and before that: an adapter that is still on its way to the engine.
        self._noted: set[str] = set()
        self._noted_before: set[str] = set()
        self._wake = asyncio.Event()
        self._lease_ids: set[str] = set()
        self._is_failing = False

    def note(self, key: str) -> None:
        """An adapter of this key is about to be used; immediate."""
        if key not in self._held and key not in self._noted:
            self._noted.add(key)
            self._wake.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        loop = asyncio.get_running_loop()
        # At start nothing is here.
        next_s = loop.time() + self._ttl_s / 3
        while True:
            if loop.time() >= next_s:
                next_s = loop.time() + self._ttl_s / 3
                await self._guarded(self._renew)
            with suppress(TimeoutError):
                async with asyncio.timeout_at(next_s):
                    await self._wake.wait()
                    await asyncio.sleep(self._gather_s)
            if self._wake.is_set():
                self._wake.clear()
                await self._guarded(self._lease_noted)

    async def release(self) -> None:
        """Ends every lease; what the store does not hear expires by itself."""
        with suppress(TimeoutError, ServiceError):
            async with asyncio.timeout(RELEASE_TIMEOUT_S):
                for lease_id in sorted(self._lease_ids):
                    await self._store.release_lease(lease_id)

    async def _renew(self) -> None:
        keys: set[str] = {info.key for info in await self._list_resident()}
        keys |= self._noted | self._noted_before
        self._noted_before, self._noted = self._noted, set()
        ordered = sorted(keys)
        wanted = {
            f"{self._name}/{number}": ordered[start : start + MAX_KEYS]
            for number, start in enumerate(range(0, len(ordered), MAX_KEYS))
        }
        for lease_id, part in wanted.items():
            await self._acquire(lease_id, part)
        self._held = frozenset(keys)
        for lease_id in sorted(self._lease_ids - wanted.keys()):
            await self._store.release_lease(lease_id)
            self._lease_ids.discard(lease_id)

    async def _lease_noted(self) -> None:
        """A lease of their own, so that one new adapter does not send all keys again."""
        if self._noted:
            await self._acquire(f"{self._name}/new", sorted(self._noted)[:MAX_KEYS])

    async def _acquire(self, lease_id: str, keys: Sequence[str]) -> None:
        # Noted before it is made: one that the store made but could not say so is released as well.
        self._lease_ids.add(lease_id)
        await self._store.acquire_lease(lease_id, self._holder, keys, self._ttl_s)

    async def _guarded(self, action: Callable[[], Awaitable[None]]) -> None:
        try:
            await action()
            self._is_failing = False
        except ServiceError as error:
            if not self._is_failing:
                log.warning("the store keeps no lease for this server (%s); going on", error.message)
            self._is_failing = True
