"""Where each adapter's weights are and who waits for them: the state machine of residency.

    REMOTE -> FETCHING -> HOST -> LOADING -> DEVICE

Owned by the engine's loop; every method is immediate. What must be read or copied is returned as a
list of `Io`, to be executed in order; the answers come back by `on_fetched`, `on_fetch_failed` and
`on_loaded`. I/O that falls due in a method that returns none (`stop`, `leave`, `requeue`) comes with
the next that does: `try_operator_loads` is called once a step.

Must not know torch, threads, files or the network. A page freed here may still be read by a step
that was launched: the loader orders its copies behind that step.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection

from services.common.errors import Reason, ServiceError, not_found
from services.inference.adapters import refusals
from services.inference.adapters.device_room import DeviceRoom
from services.inference.adapters.entry import Entry, LoadCall
from services.inference.adapters.host_copies import HostCopies
from services.inference.adapters.io_orders import ClearTable, DropHost, Fetch, FetchSource, Io, Load
from services.inference.adapters.operator_calls import Completed, OperatorCalls
from services.inference.adapters.residency_counters import ResidencyCounters
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
        self._entries: dict[AdapterKey, Entry] = {}
        self._calls = OperatorCalls(self._device, self._host)
        self._io: list[Io] = []
        self._counters = ResidencyCounters()

    # ---- what the scheduler asks

    def state(self, key: AdapterKey) -> ResidencyState:
        """Where `key` is for a request that wants to start: FETCHING while an unload drains it."""
        entry = self._entries.get(key)
        if entry is None:
            return REMOTE
        return FETCHING if entry.unloads else entry.state

    def error(self, key: AdapterKey) -> ServiceError | None:
        """Why `key` cannot be had for those who wait now; forgotten when the last of them left."""
        entry = self._entries.get(key)
        return None if entry is None else entry.error

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
        """Every adapter known here, by version name."""
        return tuple(
            sorted((entry.info() for entry in self._entries.values()), key=lambda info: info.version_name)
        )

    # ---- requests

    def require(self, adapter: ResolvedAdapter, request_id: str) -> list[Io]:
        """Makes `request_id` wait for `adapter`, and fetches it if it is nowhere here."""
        entry = self._entry(adapter)
        assert request_id not in entry.waiting, f"{request_id} waits already"
        assert request_id not in entry.running, f"{request_id} runs already"
        self._counters.count_require(entry.state)
        entry.waiting[request_id] = None
        self._touch(entry)
        return self._settled(entry)

    def start(self, key: AdapterKey, request_id: str) -> None:
        """Waiting -> running; `state(key)` must be DEVICE."""
        assert self.state(key) is DEVICE, f"{key} is {self.state(key)}"
        entry = self._entries[key]
        del entry.waiting[request_id]
        entry.running.add(request_id)
        self._touch(entry)
        self._device.note(entry)

    def requeue(self, key: AdapterKey, request_id: str) -> None:
        """Running -> waiting: the request was preempted."""
        entry = self._entries[key]
        entry.running.remove(request_id)
        entry.waiting[request_id] = None
        self._touch(entry)
        self._settle(entry)

    def stop(self, key: AdapterKey, request_id: str) -> None:
        """Running -> gone."""
        entry = self._entries[key]
        entry.running.remove(request_id)
        self._touch(entry)
        self._settle(entry)

    def leave(self, key: AdapterKey, request_id: str) -> None:
        """Waiting -> gone."""
        entry = self._entries[key]
        del entry.waiting[request_id]
        if not entry.waiting:
            entry.error = None
        self._settle(entry)

    # ---- room in the pool

    def try_load(self, key: AdapterKey) -> list[Io] | None:
        """HOST -> LOADING, evicting idle adapters if need be; None if there is no room now.

        None as well if there never is, by pins or a quota: `error(key)` says so.
        """
        return self._take_io() if self._place(self._entries[key]) else None

    def waits_for_tenant(self, key: AdapterKey) -> bool:
        """Whether its tenant's quota alone keeps `key` out of the pool, until another of its is idle."""
        return self.state(key) is HOST and self._device.waits_for_tenant(self._entries[key])

    def try_load_ahead(self, key: AdapterKey, spare_pages: int) -> list[Io] | None:
        """The same ahead of a request's turn: `spare_pages` stay within reach of those before it."""
        return self._take_io() if self._place(self._entries[key], spare_pages) else None

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
            self._refuse(entry, refusals.too_large(entry, self._pool.num_pages))
        return self._settled(entry)

    def on_fetch_failed(self, key: AdapterKey, error: ServiceError) -> list[Io]:
        """FETCHING -> REMOTE; those who waited get `error`."""
        entry = self._entries[key]
        assert entry.state is FETCHING, f"{key} is {entry.state}"
        self._counters.fetch_failures += 1
        entry.state = REMOTE
        self._refuse(entry, error)
        return self._settled(entry)

    def on_loaded(self, key: AdapterKey) -> list[Io]:
        """LOADING -> DEVICE: the weights are in the pool and the table row is written."""
        entry = self._entries[key]
        assert entry.state is LOADING, f"{key} is {entry.state}"
        self._device.loaded(entry)
        self._touch(entry)
        return self._settled(entry)

    def on_load_failed(self, key: AdapterKey, error: ServiceError) -> list[Io]:
        """LOADING -> HOST; those who waited get `error`."""
        entry = self._entries[key]
        assert entry.state is LOADING, f"{key} is {entry.state}"
        self._device.loaded(entry)
        self._vacate(entry)
        self._refuse(entry, error)
        return self._settled(entry)

    # ---- operator commands

    def load(self, adapter: ResolvedAdapter, tier: ResidencyState, pin: bool, call_id: int) -> list[Io]:
        """Brings `adapter` to `tier` (HOST or DEVICE), and keeps it there if `pin`."""
        assert tier in (HOST, DEVICE), f"no tier to load to: {tier}"
        entry = self._entry(adapter)
        self._calls.load(entry, call_id, LoadCall(tier, pin))
        self._touch(entry)
        return self._settled(entry)

    def unload(self, key: AdapterKey, tier: ResidencyState, call_id: int) -> list[Io]:
        """Unpins `key`; once nothing runs on it, frees its pages, and its host copy too if `tier` is HOST.

        Requests that wait, now or meanwhile, wait for that and then bring it here again.
        """
        assert tier in (HOST, DEVICE), f"no tier to unload: {tier}"
        entry = self._entries.get(key)
        if entry is None:
            message = f"adapter {key[:12]} is neither in the pool nor in host memory: nothing to unload"
            self._calls.answer(call_id, not_found(Reason.ADAPTER_NOT_FOUND, message))
            return self._take_io()
        self._calls.unload(entry, call_id, tier)
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

    def _entry(self, adapter: ResolvedAdapter) -> Entry:
        entry = self._entries.get(adapter.key)
        if entry is None:
            entry = self._entries[adapter.key] = Entry(adapter, self._clock())
        # The same weights may go by several names: show, and fetch by, the one that was resolved last.
        entry.adapter = adapter
        return entry

    def _settled(self, entry: Entry) -> list[Io]:
        self._settle(entry)
        return self._take_io()

    def _settle(self, entry: Entry) -> None:
        """Takes every step that `entry` can take now; called after any change of it."""
        self._device.note(entry)
        if entry.unloads:
            self._unload_if_drained(entry)
        if not entry.unloads:
            self._calls.complete_loads(entry)
            self._advance(entry)
        self._device.note(entry)
        self._calls.note(entry)
        if entry.state is REMOTE and not entry.is_wanted:
            self._entries.pop(entry.key, None)
        self._trim_host()

    def _advance(self, entry: Entry) -> None:
        if entry.state is REMOTE and entry.is_wanted and entry.error is None:
            entry.state = FETCHING
            self._io.append(Fetch(entry.adapter))
        elif entry.state is HOST and entry.loads:
            self._place(entry)

    def _unload_if_drained(self, entry: Entry) -> None:
        if entry.running or entry.state in (FETCHING, LOADING):
            return
        for call_id, tier in entry.unloads.items():
            self._calls.answer(call_id, self._free(entry, tier))
        entry.unloads.clear()

    def _free(self, entry: Entry, tier: ResidencyState) -> Freed:
        device_bytes = host_bytes = 0
        if entry.state is DEVICE:
            device_bytes = entry.packed_bytes
            self._vacate(entry)
        if tier is HOST and entry.host_bytes:
            host_bytes = entry.host_bytes
            self._drop_host(entry)
        return Freed(device_bytes, host_bytes)

    def _refuse(self, entry: Entry, error: ServiceError) -> None:
        self._calls.fail_loads(entry, error)
        if entry.waiting:
            entry.error = error

    # ---- moves of bytes

    def _place(self, entry: Entry, spare_pages: int | None = None) -> bool:
        if entry.state is not HOST or entry.error is not None:
            return False
        victims = self._device.way_in(entry, spare_pages)
        if isinstance(victims, ServiceError):
            self._refuse(entry, victims)
        if not isinstance(victims, list):
            return False
        self._evict(victims)
        self._device.place(entry)
        self._io.append(Load(entry.key, self.adapter_index(entry.key), entry.pages))
        for victim in victims:
            self._settle(victim)
        return True

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
            if entry.state is REMOTE:
                del self._entries[entry.key]

    def _touch(self, entry: Entry) -> None:
        entry.last_used_s = self._clock()
        self._device.touch(entry)
        self._host.touch(entry)

    def _take_io(self) -> list[Io]:
        io, self._io = self._io, []
        return io

    # ---- for tests and logs

    def check_integrity(self) -> None:
        """Raises AssertionError unless states, requests, pages, table rows and host bytes agree."""
        entries = tuple(self._entries.values())
        for key, entry in self._entries.items():
            assert entry.key == key, f"{key} is filed under another key"
            entry.check_integrity()
        self._calls.check_integrity(entries)
        self._device.check_integrity(entries)
        self._host.check_integrity(entries)

    def __repr__(self) -> str:
        states = Counter(entry.state for entry in self._entries.values())
        counts = ", ".join(f"{state}={states[state]}" for state in ResidencyState)
        return f"Residency({counts})"
