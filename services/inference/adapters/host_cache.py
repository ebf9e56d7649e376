"""Packed adapters in host memory, by key. Thread-safe; must not decide what stays: residency does."""

import threading

from services.inference.adapters.packing import PackedAdapter
from services.inference.request import AdapterKey


class HostCache:
    """Fetch threads put, the loader reads, the engine's loop drops."""

    def __init__(self) -> None:
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
        """Forgets the copy of `key`; KeyError if there is none."""
        with self._lock:
            del self._packed[key]

    def keys(self) -> set[AdapterKey]:
        """Which adapters have a copy."""
        with self._lock:
            return set(self._packed)
