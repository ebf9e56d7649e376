"""Seconds by source and bytes from the store, from orders and their completions."""

from services.common.errors import Code, Reason, ServiceError
from services.inference.adapters.completions import Fetched, FetchFailed, LoadEnded
from services.inference.adapters.io_meter import IoMeter
from services.inference.adapters.io_orders import ClearTable, Fetch, FetchSource, Load
from services.inference.request import AdapterFile, AdapterKey, ResolvedAdapter

FILES = (
    AdapterFile("adapter_config.json", 100, "a" * 64),
    AdapterFile("adapter_model.safetensors", 4000, "b" * 64),
    AdapterFile("README.md", 7, "c" * 64),
)


class Clock:
    now_s = 0.0

    def __call__(self):
        return self.now_s


def adapter(key):
    return ResolvedAdapter(AdapterKey(key), f"tenants/acme/adapters/{key}/versions/1", 8, FILES)


def test_each_piece_of_io_is_timed_by_its_source():
    clock = Clock()
    meter = IoMeter(clock)
    for key, source, seconds in (("a", FetchSource.STORE, 2.0), ("b", FetchSource.DISK, 0.5)):
        meter.ordered(Fetch(adapter(key)))
        clock.now_s += seconds
        meter.ended(Fetched(AdapterKey(key), 1, 1024, source))
    meter.ordered(Load(AdapterKey("a"), 0, (1, 2)))
    meter.ordered(ClearTable(3))
    clock.now_s += 0.25
    meter.ended(LoadEnded(AdapterKey("a")))
    seconds = {source: (each.num_observed, each.total) for source, each in meter.load_seconds.items()}
    assert seconds == {"store": (1, 2.0), "disk": (1, 0.5), "host": (1, 0.25)}
    assert meter.fetched_bytes == 4100, "the files that are fetched, from the store alone"


def test_what_failed_is_not_counted_and_leaves_nothing():
    meter = IoMeter(Clock())
    meter.ordered(Fetch(adapter("a")))
    error = ServiceError(Code.UNAVAILABLE, Reason.STORE_UNAVAILABLE, "no answer")
    meter.ended(FetchFailed(AdapterKey("a"), error))
    assert meter.fetched_bytes == sum(each.num_observed for each in meter.load_seconds.values()) == 0
    assert repr(meter) == "IoMeter(under way=0, fetched_bytes=0)"
