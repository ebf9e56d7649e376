"""Where each adapter's weights are and who waits for them: the state machine of residency.

    REMOTE -> FETCHING -> HOST -> LOADING -> DEVICE

LOADING is as good as DEVICE for requests: the load is in the I/O that is executed before the next step, and
the device orders the step behind the copies. Until these have ended, nothing evicts, unloads or drops it.

Bytes that several tenants have are one adapter, fetched and held once; each tenant has a use of its own of
it, and sees, pins, unloads and is counted for that use alone.

Owned by the engine's loop; every method is immediate. What must be read or copied is returned as a
list of `Io`, to be executed in order; the answers come back by `on_fetched`, `on_fetch_failed`,
`on_load_failed` and `on_load_ended`. I/O that falls due in a method that returns none (`stop`, `leave`,
`requeue`) comes with the next that does: `try_operator_loads` is called once a step.

Must not know torch, threads, files or the network. A page freed here may still be read by a step
that was launched: the loader orders its copies behind that step.
"""

import time
from collections.abc import Callable, Collection

from services.common.errors import Reason, ServiceError, not_found
from services.inference.adapters import refusals
from services.inference.adapters.device_room import DeviceRoom, WayIn
from services.inference.adapters.entries import Entries
from services.inference.adapters.entry import ON_DEVICE, Entry
from services.inference.adapters.host_copies import HostCopies
from services.inference.adapters.io_orders import ClearTable, DropHost, Fetch, FetchSource, Io, Load
from services.inference.adapters.operator_calls import Completed, OperatorCalls
from services.inference.adapters.residency_counters import ResidencyCounters
from services.inference.adapters.tenant_use import LoadCall, TenantUse
from services.inference.messages import AdapterInfo, Freed, ResidencyState
from services.inference.page_pool import PagePool
from services.inference.request import AdapterKey, ResolvedAdapter

__all__ = ["ClearTable", "DropHost", "Fetch", "FetchSource", "Io", "Load", "Residency"]

REMOTE, FETCHING, HOST = ResidencyState.REMOTE, ResidencyState.FETCHING, ResidencyState.HOST
LOADING, DEVICE = ResidencyState.LOADING, ResidencyState.DEVICE


class Residency:
    """All adapters that are somewhere here, or wanted. Not thread-safe."""

    def __init__(
        self,
        pool: PagePool,
        num_table_rows: int,
        host_capacity_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self._clock = clock
        self._device = DeviceRoom(pool, num_table_rows)
        self.tenants = self._device.tenants
        self._host = HostCopies(host_capacity_bytes)
        self._entries = Entries()
        self.count_by_state = self._entries.count_by_state
        self._calls = OperatorCalls(self._device, self._host)
        self._io: list[Io] = []
        self._counters = ResidencyCounters()

    # ---- what the scheduler asks

    def state(self, adapter: ResolvedAdapter) -> ResidencyState:
        """Where `adapter` is for a request that wants to start.

        FETCHING while its tenant's unload drains it, and while the copies of a load that failed are under
        way. HOST while it is in the pool for other tenants alone: `try_load` lets it in for this one.
        """
        found = self._entries.find(adapter.key, adapter.tenant)
        if found is None:
            return REMOTE
        entry, use = found
        return FETCHING if use.unloads or entry.load_error else entry.state_for(use)

    def is_ready(self, adapter: ResolvedAdapter) -> bool:
        """Whether a request may start on `adapter` now."""
        return self.state(adapter) in ON_DEVICE

    def error(self, adapter: ResolvedAdapter) -> ServiceError | None:
        """Why the tenant cannot have `adapter` now; forgotten when the last of its requests left."""
        found = self._entries.find(adapter.key, adapter.tenant)
        return None if found is None else found[1].error

    def adapter_index(self, key: AdapterKey) -> int:
        """The row of `key`, which must be LOADING or DEVICE, in the RankRowTable."""
        index = self._entries[key].adapter_index
        assert index is not None, f"{key} is not on the device"
        return index

    @property
    def is_loading(self) -> bool:
        """Whether any adapter is being copied into the pool."""
        return self._device.num_loading > 0

    @property
    def counters(self) -> ResidencyCounters:
        """Counts since the start and gauges of now."""
        return self._counters.with_gauges(self._host.held_bytes, self._device.num_placed)

    def info(self) -> tuple[AdapterInfo, ...]:
        """Every adapter known here, once for each tenant that uses it, by version name."""
        return self._entries.info()

    # ---- requests

    def require(self, adapter: ResolvedAdapter, request_id: str) -> list[Io]:
        """Makes `request_id` wait for `adapter`, and fetches it if it is nowhere here."""
        entry, use = self._entries.use(adapter, self._clock())
        assert request_id not in use.waiting, f"{request_id} waits already"
        assert request_id not in use.running, f"{request_id} runs already"
        self._counters.count_require(entry.state)
        use.waiting[request_id] = None
        self._touch(entry, use)
        return self._settled(entry)

    def start(self, key: AdapterKey, request_id: str) -> None:
        """Waiting -> running; its adapter must be ready."""
        entry = self._entries[key]
        use = entry.use_of(request_id)
        assert self.is_ready(use.adapter), f"{key} is {self.state(use.adapter)}"
        del use.waiting[request_id]
        use.running.add(request_id)
        self._touch(entry, use)
        self._device.note(entry)

    def requeue(self, key: AdapterKey, request_id: str) -> None:
        """Running -> waiting: the request was preempted."""
        entry = self._entries[key]
        use = entry.use_of(request_id)
        use.running.remove(request_id)
        use.waiting[request_id] = None
        self._touch(entry, use)
        self._settle(entry)

    def stop(self, key: AdapterKey, request_id: str) -> None:
        """Running -> gone."""
        entry = self._entries[key]
        use = entry.use_of(request_id)
        use.running.remove(request_id)
        self._touch(entry, use)
        self._settle(entry)

    def leave(self, key: AdapterKey, request_id: str) -> None:
        """Waiting -> gone."""
        entry = self._entries[key]
        use = entry.use_of(request_id)
        del use.waiting[request_id]
        if not use.waiting:
            use.error = None
        self._settle(entry)

    # ---- room in the pool

    def try_load(self, adapter: ResolvedAdapter, spare_pages: int | None = None) -> list[Io] | None:
        """HOST -> LOADING, evicting idle adapters if need be; None if there is no room now.

        Requests may start at once: the I/O is to be executed before their step. What other tenants have in
        the pool is there for this one too. None as well if there never is room, by pins or a quota:
        `error(adapter)` says so. With `spare_pages`, ahead of a request's turn: so many stay within reach of
        those before it.
        """
        entry, use = self._entries.known(adapter)
        return self._take_io() if self._place(entry, use, spare_pages) else None

    def waits_for_tenant(self, adapter: ResolvedAdapter) -> bool:
        """Whether the tenant's quota alone keeps `adapter` out, until another of the tenant's is idle."""
        if not self.tenants.has_quota(adapter.tenant) or self.state(adapter) is not HOST:
            return False
        return self._device.waits_for_tenant(self._entries[adapter.key], adapter.tenant)

    def evict_idle(self, num_pages: int, keep: Collection[AdapterKey] = ()) -> list[Io]:
        """Evicts idle adapters until `num_pages` pages are free; none if that cannot be reached.

        Adapters in `keep` stay.
        """
        victims = self._device.victims(num_pages, keep=keep) or []
        self._evict(victims)
        for victim in victims:
            self._settle(victim)
        return self._take_io()

    # ---- I/O that ended

    def on_fetched(self, key: AdapterKey, num_pages: int, host_bytes: int, source: FetchSource) -> list[Io]:
        """FETCHING -> HOST: a copy of `host_bytes` that needs `num_pages` is in host memory."""
        entry = self._entries[key]
        assert entry.state is FETCHING, f"{key} is {entry.state}"
        self._counters.count_fetch(source)
        entry.state, entry.num_pages, entry.packed_bytes = HOST, num_pages, host_bytes
        self._host.add(entry, host_bytes)
        if num_pages >= self._pool.num_pages:
            self._drop_host(entry)
            for use in entry.uses.values():
                self._refuse(entry, use, refusals.too_large(entry, use, self._pool.num_pages))
        return self._settled(entry)

    def on_fetch_failed(self, key: AdapterKey, error: ServiceError) -> list[Io]:
        """FETCHING -> REMOTE; those of the tenant that it was fetched for get `error`.

        For others that wait it is fetched again by their own name, which may be good.
        """
        entry = self._entries[key]
        assert entry.state is FETCHING, f"{key} is {entry.state}"
        self._counters.fetch_failures += 1
        entry.state = REMOTE
        use = entry.uses.get(entry.fetched_for)
        if use is not None:
            self._refuse(entry, use, error)
        return self._settled(entry)

    def on_load_failed(self, key: AdapterKey, error: ServiceError) -> None:
        """The load that was just ordered is good for nobody; those who wait get `error`.

        So must those who started on it, from the caller, before a step is launched. Pages stay taken until
        `on_load_ended`: some of the copies may be under way.
        """
        entry = self._entries[key]
        assert entry.state is LOADING, f"{key} is {entry.state}"
        entry.load_error = error
        for use in entry.uses.values():
            self._refuse(entry, use, error)

    def on_load_ended(self, key: AdapterKey) -> list[Io]:
        """LOADING -> DEVICE, or -> HOST if the load had failed: no copy of it is under way."""
        entry = self._entries[key]
        assert entry.state is LOADING, f"{key} is {entry.state}"
        if not self._device.loaded(entry):
            self._vacate(entry)
        for use in entry.uses.values():
            if use.is_in_pool:
                self._touch(entry, use)
        return self._settled(entry)

    # ---- operator commands

    def load(self, adapter: ResolvedAdapter, tier: ResidencyState, pin: bool, call_id: int) -> list[Io]:
        """Brings `adapter` to `tier` (HOST or DEVICE), and keeps it there if `pin`."""
        assert tier in (HOST, DEVICE), f"no tier to load to: {tier}"
        entry, use = self._entries.use(adapter, self._clock())
        self._calls.load(entry, use, call_id, LoadCall(tier, pin))
        self._touch(entry, use)
        return self._settled(entry)

    def unload(self, key: AdapterKey, tenant: str, tier: ResidencyState, call_id: int) -> list[Io]:
        """Ends the tenant's pin of `key`, and once nothing of its runs on it, the tenant's hold on it.

        Its pages are free when no other tenant has it in the pool, and if `tier` is HOST its host copy when
        no other uses it. The tenant's requests that wait, now or meanwhile, wait for that and then bring it
        here again.
        """
        assert tier in (HOST, DEVICE), f"no tier to unload: {tier}"
        found = self._entries.find(key, tenant)
        if found is None:
            message = f"adapter {key[:12]} is neither in the pool nor in host memory: nothing to unload"
            self._calls.answer(call_id, not_found(Reason.ADAPTER_NOT_FOUND, message))
            return self._take_io()
        entry, use = found
        self._calls.unload(entry, use, call_id, tier)
        return self._settled(entry)

    def try_operator_loads(self) -> list[Io]:
        """Loads what operators asked for and found no room for; also returns any I/O left over."""
        for key in self._calls.open_keys():
            self._settle(self._entries[key])
        return self._take_io()

    def take_completed(self) -> list[Completed]:
        """The answers to operator commands since the last call, by call_id."""
        return self._calls.take_completed()

    # ---- how an entry moves on by itself

    def _settled(self, entry: Entry) -> list[Io]:
        self._settle(entry)
        return self._take_io()

    def _settle(self, entry: Entry) -> None:
        """Takes every step that `entry` can take now; called after any change of it."""
        self._device.note(entry)
        uses = tuple(entry.uses.values())
        for use in uses:
            self._unload_if_drained(entry, use)
        for use in uses:
            if not use.unloads:
                self._calls.complete_loads(entry, use)
                self._advance(entry, use)
        self._device.note(entry)
        self._calls.note(entry)
        self._entries.forget_unused(entry)
        self._trim_host()

    def _advance(self, entry: Entry, use: TenantUse) -> None:
        if entry.state is REMOTE and use.is_wanted and use.error is None:
            entry.state, entry.fetched_for = FETCHING, use.tenant
            self._io.append(Fetch(use.adapter))
        elif use.loads and self._place(entry, use):
            self._calls.complete_loads(entry, use)

    def _unload_if_drained(self, entry: Entry, use: TenantUse) -> None:
        if use.running or entry.state in (FETCHING, LOADING):
            return
        for call_id, tier in use.unloads.items():
            self._calls.answer(call_id, self._free(entry, use, tier))
        use.unloads.clear()

    def _free(self, entry: Entry, use: TenantUse, tier: ResidencyState) -> Freed:
        """What the tenant holds no more; others may hold the same bytes, which is not for it to know."""
        device_bytes = entry.packed_bytes if use.is_in_pool else 0
        host_bytes = entry.host_bytes if tier is HOST and entry.uses.get(use.tenant) is use else 0
        if use.is_in_pool:
            self._give_up(entry, use)
        if tier is HOST:
            if entry.host_bytes and len(entry.uses) == 1:
                self._drop_host(entry)
            elif not use.is_wanted:
                entry.uses.pop(use.tenant, None)
        return Freed(device_bytes, host_bytes)

    def _refuse(self, entry: Entry, use: TenantUse, error: ServiceError) -> None:
        self._calls.fail_loads(entry, use, error)
        if use.waiting:
            use.error = error

    # ---- moves of bytes

    def _place(self, entry: Entry, use: TenantUse, spare_pages: int | None = None) -> bool:
        if entry.state_for(use) is not HOST or use.error or entry.load_error:
            return False
        way_in = self._device.way_in(entry, use, spare_pages)
        if isinstance(way_in, ServiceError):
            self._refuse(entry, use, way_in)
        if not isinstance(way_in, WayIn):
            return False
        for each in way_in.given_up:
            self.tenants.remove(each, each.uses[use.tenant])
        self._evict(way_in.victims)
        if entry.state is HOST:
            self._device.place(entry, use)
            self._io.append(Load(entry.key, self.adapter_index(entry.key), entry.pages))
        else:
            self.tenants.add(entry, use)
        for each in (*way_in.given_up, *way_in.victims):
            self._settle(each)
        return True

    def _give_up(self, entry: Entry, use: TenantUse) -> None:
        if entry.is_shared(use):
            self.tenants.remove(entry, use)
        else:
            self._vacate(entry)

    def _evict(self, victims: list[Entry]) -> None:
        for victim in victims:
            self._vacate(victim)
        self._counters.device_evictions += len(victims)

    def _vacate(self, entry: Entry) -> None:
        row = self._device.vacate(entry, HOST if entry.host_bytes else REMOTE)
        self._io.append(ClearTable(row))

    def _drop_host(self, entry: Entry) -> None:
        self._host.remove(entry)
        self._io.append(DropHost(entry.key))
        if entry.state is HOST:
            entry.state = REMOTE

    def _trim_host(self) -> None:
        for entry in self._host.surplus():
            self._drop_host(entry)
            self._counters.host_evictions += 1
            self._entries.forget_unused(entry)

    def _touch(self, entry: Entry, use: TenantUse) -> None:
        use.last_used_s = self._clock()
        self._device.touch(entry, use)
        self._host.touch(entry)

    def _take_io(self) -> list[Io]:
        io, self._io = self._io, []
        return io

    # ---- for tests and logs

    def check_integrity(self) -> None:
        """Raises AssertionError unless states, requests, pages, table rows and host bytes agree."""
        entries = tuple(self._entries)
        self._entries.check_integrity()
        self._calls.check_integrity(entries)
        self._device.check_integrity(entries)
        self._host.check_integrity(entries)

    def __repr__(self) -> str:
        states = self.count_by_state()
        counts = ", ".join(f"{state}={states[state]}" for state in ResidencyState)
        return f"Residency({counts})"
