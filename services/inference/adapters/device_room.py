"""Pages and table rows of the adapters in the pool, and which of them could be given up.

Adapters that no request runs stay until their room is wanted, least recently used first. Must not
know host copies, fetches or who waits why.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from services.common.errors import ServiceError
from services.inference.adapters import refusals
from services.inference.adapters.entry import ON_DEVICE, Entry
from services.inference.adapters.tenant_room import TenantRoom
from services.inference.adapters.tenant_use import TenantUse
from services.inference.messages import ResidencyState
from services.inference.page_pool import PagePool, PageUse
from services.inference.request import AdapterKey


@dataclass(frozen=True, slots=True)
class WayIn:
    """What has to go so that an adapter can come in for a tenant.

    `victims` leave the pool; those `given_up` stay there for others, and leave the tenant's count alone.
    """

    victims: list[Entry]
    given_up: list[Entry]


class DeviceRoom:
    """The share of `pool` that holds adapters, with one of `num_table_rows` table rows each."""

    def __init__(self, pool: PagePool, num_table_rows: int) -> None:
        self.pool = pool
        self.num_loading = 0
        self.pinned_pages = 0
        self._num_table_rows = num_table_rows
        self._free_rows = list(range(num_table_rows - 1, -1, -1))
        self._idle: dict[AdapterKey, Entry] = {}
        self._idle_pages = 0
        self._pinned: dict[AdapterKey, int] = {}
        self.tenants = TenantRoom()

    @property
    def num_placed(self) -> int:
        """Adapters that have pages."""
        return self._num_table_rows - len(self._free_rows)

    def could_hold(self, num_pages: int, extra_rows: int = 0) -> bool:
        """Whether `num_pages` and `extra_rows` are free, or would be with every idle adapter gone."""
        rows = len(self._free_rows) + len(self._idle)
        return self.pool.num_free + self._idle_pages >= num_pages and rows >= extra_rows

    def victims(
        self, num_pages: int, extra_rows: int = 0, keep: Collection[AdapterKey] = ()
    ) -> list[Entry] | None:
        """Whom to evict so that `num_pages` and `extra_rows` are free; None if that cannot be reached.

        Never one of `keep`. Adapters that somebody waits for go last; otherwise the least recently
        used goes first.
        """
        if not self.could_hold(num_pages, extra_rows):
            return None
        candidates = (entry for entry in self._by_need() if entry.key not in keep)
        return self._choose(candidates, num_pages, extra_rows)

    def way_in(self, entry: Entry, use: TenantUse, spare_pages: int | None) -> WayIn | ServiceError | None:
        """How `entry` can come in for the tenant of `use`; None if it cannot now, or why it never can.

        The tenant's own go first where its quota asks for it. With `spare_pages`, ahead of its time, nobody
        that is waited for; and as many pages must stay that are free, or idle and not waited for.
        """
        is_in_pool = entry.state in ON_DEVICE
        if not is_in_pool and entry.num_pages >= self.pool.num_pages - self.pinned_pages:
            return refusals.crowded_out(entry, use, self.pinned_pages, self.pool.num_pages)
        refusal = self.tenants.refusal(entry, use)
        if refusal is not None:
            return refusal
        if not is_in_pool and not self.could_hold(entry.num_pages, extra_rows=1):
            return None
        own = self.tenants.must_leave(entry, use.tenant, wanted_too=spare_pages is None)
        if own is None:
            return None
        given_up = [each for each in own if each.is_shared(each.uses[use.tenant])]
        leaving = [each for each in own if not each.is_shared(each.uses[use.tenant])]
        if is_in_pool:
            return WayIn(leaving, given_up)
        victims = self._victims_for(entry, leaving, spare_pages)
        return None if victims is None else WayIn(victims, given_up)

    def _victims_for(
        self, entry: Entry, leaving: Collection[Entry], spare_pages: int | None
    ) -> list[Entry] | None:
        candidates = self._by_need()
        if spare_pages is not None:
            candidates = [idle for idle in candidates if not idle.is_wanted]
            reach = self.pool.num_free + sum(idle.num_pages for idle in candidates)
            if reach < entry.num_pages + spare_pages:
                return None
        return self._choose(candidates, entry.num_pages, 1, leaving)

    def waits_for_tenant(self, entry: Entry, tenant: str) -> bool:
        """Whether the tenant's quota alone keeps `entry` out, until one of the tenant's own is idle."""
        return self.tenants.must_leave(entry, tenant) is None

    def _by_need(self) -> list[Entry]:
        """The idle, least recently used first; those that somebody waits for go last."""
        return sorted(self._idle.values(), key=lambda entry: entry.is_wanted)

    def _choose(
        self, candidates: Iterable[Entry], num_pages: int, extra_rows: int, first: Collection[Entry] = ()
    ) -> list[Entry] | None:
        chosen = list(first)
        taken = {entry.key for entry in chosen}
        pages_short = num_pages - self.pool.num_free - sum(entry.num_pages for entry in chosen)
        rows_short = extra_rows - len(self._free_rows) - len(chosen)
        for entry in candidates:
            if pages_short <= 0 and rows_short <= 0:
                break
            if entry.key in taken:
                continue
            chosen.append(entry)
            pages_short -= entry.num_pages
            rows_short -= 1
        return chosen if pages_short <= 0 and rows_short <= 0 else None

    def pin_refusal(self, entry: Entry, use: TenantUse) -> ServiceError | None:
        """Why `entry` may not be pinned as well: pins may take half the pool."""
        if (self.pinned_pages + entry.num_pages) * 2 <= self.pool.num_pages:
            return None
        return refusals.pool_is_pinned(entry, use, self.pinned_pages, self.pool.num_pages)

    def place(self, entry: Entry, use: TenantUse) -> None:
        """Gives `entry` pages and a row, which must be free, and makes it LOADING for the tenant of `use`."""
        pages = self.pool.allocate(entry.num_pages, PageUse.ADAPTER)
        assert pages is not None, "no room: ask victims() first"
        entry.pages, entry.adapter_index = pages, self._free_rows.pop()
        entry.state = ResidencyState.LOADING
        self.num_loading += 1
        self.tenants.add(entry, use)

    def loaded(self, entry: Entry) -> bool:
        """Makes a LOADING `entry` DEVICE: nobody writes its pages any more. False if the load had failed."""
        is_good = entry.load_error is None
        entry.state, entry.load_error = ResidencyState.DEVICE, None
        self.num_loading -= 1
        return is_good

    def vacate(self, entry: Entry, state: ResidencyState) -> int:
        """Takes pages and row from a DEVICE `entry`, makes it `state`, returns the row."""
        assert entry.state is ResidencyState.DEVICE, f"{entry.key} is {entry.state}"
        assert entry.adapter_index is not None
        row = entry.adapter_index
        self.pool.release(entry.pages)
        for use in entry.uses.values():
            if use.is_in_pool:
                self.tenants.remove(entry, use)
        self._free_rows.append(row)
        entry.pages, entry.adapter_index, entry.state = (), None, state
        self.note(entry)
        return row

    def note(self, entry: Entry) -> None:
        """Keeps the idle and pinned sets true after any change of `entry`."""
        if entry.is_evictable != (entry.key in self._idle):
            if entry.is_evictable:
                self._idle[entry.key] = entry
                self._idle_pages += entry.num_pages
            else:
                del self._idle[entry.key]
                self._idle_pages -= entry.num_pages
        if entry.is_page_pinned != (entry.key in self._pinned):
            if entry.is_page_pinned:
                self._pinned[entry.key] = entry.num_pages
                self.pinned_pages += entry.num_pages
            else:
                self.pinned_pages -= self._pinned.pop(entry.key)

    def touch(self, entry: Entry, use: TenantUse) -> None:
        """Makes `entry` the most recently used of the idle, and of the tenant's."""
        self.tenants.touch(entry, use)
        if entry.key in self._idle:
            self._idle[entry.key] = self._idle.pop(entry.key)

    def check_integrity(self, entries: Iterable[Entry]) -> None:
        """Raises AssertionError unless pages, rows, idle and pinned sets are what `entries` say."""
        entries = tuple(entries)
        self.tenants.check_integrity(entries)
        placed = [entry for entry in entries if entry.state in ON_DEVICE]
        pages = [page for entry in placed for page in entry.pages]
        assert len(set(pages)) == len(pages), "two adapters hold the same page"
        assert len(pages) == self.pool.num_held(PageUse.ADAPTER), "adapter pages without an adapter"
        assert all(len(entry.pages) == entry.num_pages for entry in placed), "pages short or over"
        rows = [entry.adapter_index for entry in placed if entry.adapter_index is not None]
        assert sorted([*rows, *self._free_rows]) == list(range(self._num_table_rows)), "table rows"
        assert self.num_loading == sum(entry.state is ResidencyState.LOADING for entry in placed)
        assert set(self._idle) == {entry.key for entry in placed if entry.is_evictable}, "idle set"
        assert self._idle_pages == sum(entry.num_pages for entry in self._idle.values()), "idle pages"
        assert set(self._pinned) == {entry.key for entry in placed if entry.is_page_pinned}, "pinned set"
        assert self.pinned_pages == sum(self._pinned.values()), "pinned pages"
