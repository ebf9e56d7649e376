"""Packed adapters in host memory, by key. Thread-safe; must not decide what stays: residency does."""

import threading

from services.inference.adapters.host_arena import HostArena
from services.inference.adapters.packing import PackedAdapter
from services.inference.request import AdapterKey


class HostCache:
    """Fetch threads put, the loader reads, the engine's loop drops. The copies lie in `arena`."""

    def __init__(self, arena: HostArena) -> None:
        self.arena = arena
        self._lock = threading.Lock()
        self._packed: dict[AdapterKey, PackedAdapter] = {}

    def put(self, packed: PackedAdapter) -> None:
        """Keeps `packed` until it is dropped."""
        with self._lock:
            self._packed[packed.key] = packed

    def get(self, key: AdapterKey) -> PackedAdapter:
        """The copy of `key`; KeyError if there is none."""
        with self._lock:
            return self._packed[key]

    def drop(self, key: AdapterKey) -> None:
        """Forgets the copy of `key`, of which nobody may read any more; KeyError if there is none."""
        with self._lock:
            packed = self._packed.pop(key)
        self.arena.give_back(packed.pages)

    def keys(self) -> set[AdapterKey]:
        """Which adapters have a copy."""
        with self._lock:
            return set(self._packed)

    def check_integrity(self) -> None:
        """Raises AssertionError unless the copies fill what is taken of the arena; nobody may pack now."""
        self.arena.check_integrity()
        with self._lock:
            numbers = [number for packed in self._packed.values() for number in packed.pages.numbers]
        assert len(set(numbers)) == len(numbers), "two host copies share a page"
        assert len(numbers) == self.arena.num_taken, "pages of the arena that no host copy fills"
