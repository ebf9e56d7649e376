"""What the tests of residency share: made-up adapters and a residency with its I/O written down."""

from services.inference.adapters.residency import FetchSource, Io, Residency
from services.inference.messages import ResidencyState
from services.inference.page_pool import PagePool
from services.inference.request import AdapterKey, ResolvedAdapter

PAGE_BYTES = 100


def adapter(name: str, tenant: str = "t") -> ResolvedAdapter:
    """The same bytes as those of that name in another tenant."""
    return ResolvedAdapter(AdapterKey(name * 64), f"tenants/{tenant}/adapters/{name}/versions/1", 8, ())


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 1.0
        return self.now_s


class Rig:
    """A residency over a pool of `num_pages`, and shorthands to bring adapters somewhere."""

    def __init__(self, num_pages: int = 10, num_table_rows: int = 4, host_pages: int = 20) -> None:
        self.pool = PagePool(num_pages)
        self.residency = Residency(self.pool, num_table_rows, host_pages * PAGE_BYTES, Clock())

    def fetched(self, name: str, num_pages: int = 2, source: FetchSource = FetchSource.STORE) -> list[Io]:
        return self.residency.on_fetched(adapter(name).key, num_pages, num_pages * PAGE_BYTES, source)

    def to_host(self, name: str, request_id: str, num_pages: int = 2) -> None:
        """REMOTE -> HOST with `request_id` waiting."""
        self.residency.require(adapter(name), request_id)
        self.fetched(name, num_pages)

    def join(self, name: str, tenant: str, request_id: str) -> None:
        """What is in the pool for others, there for `tenant` too, with `request_id` waiting."""
        assert self.residency.require(adapter(name, tenant), request_id) == []
        assert self.residency.try_load(adapter(name, tenant)) == []

    def to_device(self, name: str, request_id: str, num_pages: int = 2) -> None:
        """REMOTE -> DEVICE with `request_id` waiting."""
        self.to_host(name, request_id, num_pages)
        assert self.residency.try_load(adapter(name)) is not None
        self.residency.on_load_ended(adapter(name).key)

    def to_idle(self, name: str, num_pages: int = 2) -> None:
        """REMOTE -> DEVICE, nobody waiting."""
        self.to_device(name, "passer-by", num_pages)
        self.residency.leave(adapter(name).key, "passer-by")

    def state(self, name: str, tenant: str = "t") -> ResidencyState:
        return self.residency.state(adapter(name, tenant))
