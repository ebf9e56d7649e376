"""The adapters that residency knows, by key, and each tenant's use of them. Must not decide anything."""

from collections import Counter
from collections.abc import Iterator

from services.inference.adapters.entry import ON_DEVICE, Entry
from services.inference.adapters.tenant_use import TenantUse
from services.inference.messages import AdapterInfo, ResidencyState
from services.inference.request import AdapterKey, ResolvedAdapter


class Entries:
    """One entry for each key, in it one use for each tenant."""

    def __init__(self) -> None:
        self._by_key: dict[AdapterKey, Entry] = {}

    def __getitem__(self, key: AdapterKey) -> Entry:
        """The entry of `key`, which must be known."""
        return self._by_key[key]

    def __iter__(self) -> Iterator[Entry]:
        """All of them."""
        return iter(self._by_key.values())

    def find(self, key: AdapterKey, tenant: str) -> tuple[Entry, TenantUse] | None:
        """The entry of `key` and the tenant's use of it; None if the tenant has none."""
        entry = self._by_key.get(key)
        use = None if entry is None else entry.uses.get(tenant)
        return None if entry is None or use is None else (entry, use)

    def known(self, adapter: ResolvedAdapter) -> tuple[Entry, TenantUse]:
        """The entry of `adapter` and its tenant's use, which must be known."""
        entry = self._by_key[adapter.key]
        return entry, entry.uses[adapter.tenant]

    def use(self, adapter: ResolvedAdapter, now_s: float) -> tuple[Entry, TenantUse]:
        """The same, made if need be."""
        entry = self._by_key.get(adapter.key)
        if entry is None:
            entry = self._by_key[adapter.key] = Entry(adapter.key)
        use = entry.uses.get(adapter.tenant)
        if use is None:
            use = entry.uses[adapter.tenant] = TenantUse(adapter, now_s)
        # A tenant may have the same weights by several names: show, and fetch by, the one resolved last.
        use.adapter = adapter
        return entry, use

    def forget_unused(self, entry: Entry) -> None:
        """Drops the uses of tenants that neither hold nor want anything of `entry`, and it with the last."""
        if entry.state is ResidencyState.REMOTE or (entry.state in ON_DEVICE and not entry.host_bytes):
            entry.uses = {t: use for t, use in entry.uses.items() if use.is_in_pool or not use.is_idle}
        if entry.state is ResidencyState.REMOTE and not entry.uses:
            self._by_key.pop(entry.key, None)

    def count_by_state(self) -> Counter[ResidencyState]:
        """How many adapters are in each state."""
        return Counter(entry.state for entry in self)

    def info(self) -> tuple[AdapterInfo, ...]:
        """Every adapter, once for each tenant that uses it, by version name."""
        infos = (entry.info(use) for entry in self for use in entry.uses.values())
        return tuple(sorted(infos, key=lambda info: info.version_name))

    def check_integrity(self) -> None:
        """Raises AssertionError unless what each says of itself agrees."""
        for key, entry in self._by_key.items():
            assert entry.key == key, f"{key} is filed under another key"
            entry.check_integrity()
