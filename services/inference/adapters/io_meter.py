"""How long adapters take from each source, and the bytes that came from the store.

Hears of orders and completions from the engine; must not decide anything.
"""

import time
from collections.abc import Callable

from services.common.histogram import Histogram
from services.inference.adapters.adapter_weights import CONFIG_FILE, WEIGHTS_FILE
from services.inference.adapters.completions import Completion, Fetched, FetchFailed, LoadEnded
from services.inference.adapters.io_orders import Fetch, FetchSource, Io, Load
from services.inference.request import AdapterKey, ResolvedAdapter

HOST = "host"


class IoMeter:
    """Adapter I/O that has ended, by source: `store` and `disk` to host memory, `host` to the device.

    An adapter has one piece of I/O under way at a time, so its key tells which one ended.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began_s: dict[AdapterKey, float] = {}
        self._fetching_bytes: dict[AdapterKey, int] = {}
        self.load_seconds = {name: Histogram() for name in (*map(str, FetchSource), HOST)}
        self.fetched_bytes = 0

    def ordered(self, order: Io) -> None:
        """I/O begins now."""
        match order:
            case Fetch(adapter):
                self._began_s[adapter.key] = self._clock()
                self._fetching_bytes[adapter.key] = _file_bytes(adapter)
            case Load(key):
                self._began_s[key] = self._clock()

    def ended(self, completion: Completion) -> None:
        """I/O has ended; what failed is not counted."""
        began_s = self._began_s.pop(completion.key, self._clock())
        file_bytes = self._fetching_bytes.pop(completion.key, 0)
        match completion:
            case Fetched(source=source):
                self._observe(str(source), began_s)
                self.fetched_bytes += file_bytes * (source is FetchSource.STORE)
            case LoadEnded():
                self._observe(HOST, began_s)
            case FetchFailed():
                pass

    def _observe(self, source: str, began_s: float) -> None:
        self.load_seconds[source].observe(self._clock() - began_s)

    def __repr__(self) -> str:
        return f"IoMeter(under way={len(self._began_s)}, fetched_bytes={self.fetched_bytes})"


def _file_bytes(adapter: ResolvedAdapter) -> int:
    return sum(file.size_bytes for file in adapter.files if file.path in (CONFIG_FILE, WEIGHTS_FILE))
