"""Which adapters have a copy in host memory, and which copy goes first when they are too many.

Must not know pages or who waits why.
"""

from collections.abc import Iterable

from services.common.errors import ServiceError
from services.inference.adapters import refusals
from services.inference.adapters.entry import Entry
from services.inference.adapters.tenant_use import TenantUse
from services.inference.messages import ResidencyState
from services.inference.request import AdapterKey


class HostCopies:
    """Host copies by last use. More than `capacity_bytes` are held only while none of them is spare."""

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self.held_bytes = 0
        self._entries: dict[AdapterKey, Entry] = {}

    def add(self, entry: Entry, host_bytes: int) -> None:
        """Notes a new copy of `host_bytes`."""
        entry.host_bytes = host_bytes
        self._entries[entry.key] = entry
        self.held_bytes += host_bytes

    def remove(self, entry: Entry) -> None:
        """Notes that the copy is gone."""
        del self._entries[entry.key]
        self.held_bytes -= entry.host_bytes
        entry.host_bytes = 0

    def touch(self, entry: Entry) -> None:
        """Makes `entry`'s copy, if there is one, the most recently used."""
        if entry.key in self._entries:
            self._entries[entry.key] = self._entries.pop(entry.key)

    def pin_refusal(self, entry: Entry, use: TenantUse) -> ServiceError | None:
        """Why the copy of `entry` may not be pinned as well: pins may take half the host cache."""
        pinned = (other for other in self._entries.values() if other.is_pinned(ResidencyState.HOST))
        pinned_bytes = sum(other.host_bytes for other in pinned)
        if (pinned_bytes + entry.host_bytes) * 2 <= self.capacity_bytes:
            return None
        return refusals.host_is_pinned(entry, use, pinned_bytes, self.capacity_bytes)

    def surplus(self) -> list[Entry]:
        """Whose copies to drop so that the rest fits, least recently used first."""
        over_bytes = self.held_bytes - self.capacity_bytes
        chosen: list[Entry] = []
        if over_bytes <= 0:
            return chosen
        for entry in self._entries.values():
            if over_bytes <= 0:
                break
            if entry.is_host_copy_spare:
                chosen.append(entry)
                over_bytes -= entry.host_bytes
        return chosen

    def check_integrity(self, entries: Iterable[Entry]) -> None:
        """Raises AssertionError unless the copies and their bytes are what `entries` say."""
        held = {entry.key: entry.host_bytes for entry in entries if entry.host_bytes}
        assert held.keys() == self._entries.keys(), "host copies without an adapter, or the reverse"
        assert sum(held.values()) == self.held_bytes, "host bytes"
        assert not self.surplus(), "spare host copies over capacity"
