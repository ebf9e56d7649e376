"""How often adapters were found in each tier, and what was evicted. Must not decide anything."""

from dataclasses import dataclass, replace

from services.inference.adapters.io_orders import FetchSource
from services.inference.messages import ResidencyState


@dataclass(slots=True)
class ResidencyCounters:
    """Counts since the start; the last two are gauges of now.

    `device_hits` and `host_hits` count requests that found their adapter there; `disk_hits` and
    `store_fetches` count fetches, each of which any number of requests may have waited for.
    """

    device_hits: int = 0
    host_hits: int = 0
    disk_hits: int = 0
    store_fetches: int = 0
    device_evictions: int = 0
    host_evictions: int = 0
    fetch_failures: int = 0
    host_bytes: int = 0
    resident_adapters: int = 0

    def count_require(self, state: ResidencyState) -> None:
        """Counts a request that found its adapter in `state`."""
        self.device_hits += state is ResidencyState.DEVICE
        self.host_hits += state in (ResidencyState.HOST, ResidencyState.LOADING)

    def count_fetch(self, source: FetchSource) -> None:
        """Counts a fetch that succeeded."""
        self.disk_hits += source is FetchSource.DISK
        self.store_fetches += source is FetchSource.STORE

    def with_gauges(self, host_bytes: int, resident_adapters: int) -> "ResidencyCounters":
        """A copy with the gauges filled in."""
        return replace(self, host_bytes=host_bytes, resident_adapters=resident_adapters)
