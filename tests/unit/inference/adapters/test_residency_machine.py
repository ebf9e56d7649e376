"""Random sequences of everything that can happen to residency; integrity holds after each."""

from itertools import product

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.common.errors import Code, Reason, ServiceError
from services.inference.adapter_name import tenant_of as tenant_in
from services.inference.adapters.residency import (
    ClearTable,
    DropHost,
    Fetch,
    FetchSource,
    Io,
    Load,
    Residency,
)
from services.inference.messages import AdapterInfo, Freed, ResidencyState
from services.inference.page_pool import PagePool, PageUse
from services.inference.request import AdapterKey, ResolvedAdapter
from tests.unit.inference.adapters.residency_model import PAGE_BYTES, Clock, adapter

SIZES = {"a": 1, "b": 2, "c": 3, "d": 4, "e": 6, "f": 9}
NUM_PAGES, NUM_ROWS, HOST_PAGES = 9, 3, 8
names = st.sampled_from(sorted(SIZES))
tenants = st.sampled_from(["t", "u"])
DOWN = ServiceError(Code.UNAVAILABLE, Reason.STORE_UNAVAILABLE, "down")
tiers = st.sampled_from([ResidencyState.HOST, ResidencyState.DEVICE])


class ResidencyMachine(RuleBasedStateMachine):
    """Plays the scheduler, the operator and the I/O, and does what it is told, later."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = PagePool(NUM_PAGES)
        self.residency = Residency(self.pool, NUM_ROWS, HOST_PAGES * PAGE_BYTES, Clock())
        self.fetching: list[AdapterKey] = []
        self.loading: list[AdapterKey] = []
        self.breaks_next = False
        self.host: set[AdapterKey] = set()
        self.table: dict[int, AdapterKey] = {}
        self.kv_pages: tuple[int, ...] = ()
        self.waiting: dict[str, ResolvedAdapter] = {}
        self.running: dict[str, ResolvedAdapter] = {}
        self.calls: set[int] = set()
        self.counter = 0

    def do(self, io: list[Io] | None) -> None:
        for order in io or []:
            match order:
                case Fetch(fetched):
                    assert fetched.key not in self.fetching, "fetched twice at once"
                    assert fetched.key not in self.host, "fetched what is on the host"
                    self.fetching.append(fetched.key)
                case Load(key, index, pages):
                    assert key in self.host, "loaded from nowhere"
                    assert index not in self.table, "table row taken"
                    assert len(pages) == SIZES[key[0]]
                    self.table[index] = key
                    self.loading.append(key)
                    if self.breaks_next:
                        self.break_load(key)
                case DropHost(key):
                    assert key not in self.loading, "dropped under a copy"
                    self.host.remove(key)
                case ClearTable(index):
                    running = [each.key for each in self.running.values()]
                    assert self.table.pop(index) not in [*self.loading, *running]

    def break_load(self, key: AdapterKey) -> None:
        """The copies cannot be launched: who waits hears of it, who started on it is failed by the engine."""
        self.breaks_next = False
        self.residency.on_load_failed(key, DOWN)
        for request_id in [r for r, started in self.running.items() if started.key == key]:
            self.residency.stop(self.running.pop(request_id).key, request_id)
        assert not any(self.residency.is_ready(each) for each in self.waiting.values() if each.key == key)

    @rule()
    def next_load_breaks(self) -> None:
        self.breaks_next = True

    def next_id(self) -> int:
        self.counter += 1
        return self.counter

    @rule(tenant=tenants, num_pages=st.sampled_from([0, 3, 5, 8]))
    def set_quota(self, tenant: str, num_pages: int) -> None:
        self.residency.tenants.set_quota(tenant, num_pages * PAGE_BYTES)

    @rule(name=names, tenant=tenants)
    def require(self, name: str, tenant: str) -> None:
        request_id = f"r{self.next_id()}"
        self.waiting[request_id] = adapter(name, tenant)
        self.do(self.residency.require(adapter(name, tenant), request_id))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), starts_at_once=st.booleans())
    def serve(self, data: st.DataObject, starts_at_once: bool) -> None:
        request_id = data.draw(st.sampled_from(sorted(self.waiting)))
        wanted = self.waiting[request_id]
        if self.residency.error(wanted) is not None:
            self.leave(request_id)
        elif self.residency.state(wanted) is ResidencyState.HOST:
            before = repr(self.pool), repr(self.residency), repr(self.residency.tenants)
            io = self.residency.try_load(wanted)
            after = repr(self.pool), repr(self.residency), repr(self.residency.tenants)
            assert io is not None or before == after
            if io is not None and starts_at_once:
                self.start(request_id)
            self.do(io)
        elif self.residency.is_ready(wanted):
            self.start(request_id)

    def start(self, request_id: str) -> None:
        started = self.running[request_id] = self.waiting.pop(request_id)
        self.residency.start(started.key, request_id)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), spare_pages=st.integers(0, NUM_PAGES))
    def load_ahead(self, data: st.DataObject, spare_pages: int) -> None:
        ahead = self.waiting[data.draw(st.sampled_from(sorted(self.waiting)))]
        if self.residency.state(ahead) is not ResidencyState.HOST:
            return
        resident = {i.key for i in self.residency.info() if i.residency is ResidencyState.DEVICE}
        wanted = resident & {each.key for each in self.waiting.values()}
        self.do(self.residency.try_load(ahead, spare_pages))
        assert wanted <= {i.key for i in self.residency.info() if i.residency is ResidencyState.DEVICE}

    def leave(self, request_id: str) -> None:
        self.residency.leave(self.waiting.pop(request_id).key, request_id)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel_waiting(self, data: st.DataObject) -> None:
        self.leave(data.draw(st.sampled_from(sorted(self.waiting))))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), preempt=st.booleans())
    def end_running(self, data: st.DataObject, preempt: bool) -> None:
        request_id = data.draw(st.sampled_from(sorted(self.running)))
        ended = self.running.pop(request_id)
        if preempt:
            self.waiting[request_id] = ended
            self.residency.requeue(ended.key, request_id)
        else:
            self.residency.stop(ended.key, request_id)

    @precondition(lambda self: self.fetching)
    @rule(data=st.data(), fails=st.integers(0, 3).map(lambda n: n == 0), source=st.sampled_from(FetchSource))
    def end_fetch(self, data: st.DataObject, fails: bool, source: FetchSource) -> None:
        key = data.draw(st.sampled_from(self.fetching))
        self.fetching.remove(key)
        if fails:
            self.do(self.residency.on_fetch_failed(key, DOWN))
            return
        self.host.add(key)
        num_pages = SIZES[key[0]]
        self.do(self.residency.on_fetched(key, num_pages, num_pages * PAGE_BYTES, source))

    @precondition(lambda self: self.loading)
    @rule(data=st.data())
    def end_load(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(self.loading))
        self.loading.remove(key)
        self.do(self.residency.on_load_ended(key))

    @rule(num_pages=st.integers(1, NUM_PAGES))
    def take_kv(self, num_pages: int) -> None:
        self.pool.release(self.kv_pages)
        held = self.pool.num_held(PageUse.ADAPTER)
        self.do(self.residency.evict_idle(num_pages))
        reached = self.pool.num_free >= num_pages
        assert reached or self.pool.num_held(PageUse.ADAPTER) == held, "evicted in vain"
        self.kv_pages = self.pool.allocate(num_pages, PageUse.KV) or ()

    @rule()
    def free_kv(self) -> None:
        self.pool.release(self.kv_pages)
        self.kv_pages = ()

    @rule(name=names, tenant=tenants, tier=tiers, pin=st.booleans())
    def operator_load(self, name: str, tenant: str, tier: ResidencyState, pin: bool) -> None:
        self.calls.add(call_id := self.next_id())
        self.do(self.residency.load(adapter(name, tenant), tier, pin, call_id))

    @rule(name=names, tenant=tenants, tier=tiers)
    def operator_unload(self, name: str, tenant: str, tier: ResidencyState) -> None:
        others = {
            i.version_name: i.pinned for i in self.residency.info() if tenant_in(i.version_name) != tenant
        }
        self.calls.add(call_id := self.next_id())
        self.do(self.residency.unload(adapter(name).key, tenant, tier, call_id))
        after = {i.version_name: i.pinned for i in self.residency.info()}
        assert all(after.get(name) for name, pinned in others.items() if pinned), "ended another's pin"

    @rule()
    def step(self) -> None:
        self.do(self.residency.try_operator_loads())

    @invariant()
    def integrity_holds(self) -> None:
        self.residency.check_integrity()
        self.pool.check_integrity()
        for call_id, answer in self.residency.take_completed():
            self.calls.remove(call_id)
            assert isinstance(answer, AdapterInfo | Freed | ServiceError)
        infos = self.residency.info()
        assert sum(info.running_requests for info in infos) == len(self.running)
        assert sum(info.waiting_requests for info in infos) == len(self.waiting)
        pinned = {i.key for i in infos if i.pinned and i.residency is ResidencyState.DEVICE}
        host_pins = {i.key for i in infos if i.pinned and i.host_bytes}
        assert sum(SIZES[key[0]] for key in pinned - host_pins) <= NUM_PAGES / 2

    def teardown(self) -> None:
        """Once everything is served or cancelled, nothing is under way and every call has its answer."""
        self.free_kv()
        for call_id, (name, tenant) in enumerate(product(SIZES, "tu"), self.next_id()):
            self.calls.add(call_id)
            self.do(self.residency.unload(adapter(name).key, tenant, ResidencyState.HOST, call_id))
        for request_id, ended in self.running.items():
            self.residency.stop(ended.key, request_id)
        for request_id in tuple(self.waiting):
            self.leave(request_id)
        self.running.clear()
        self.do(self.residency.try_operator_loads())
        while self.fetching or self.loading:
            for key in tuple(self.fetching):
                self.fetching.remove(key)
                self.host.add(key)
                num_pages = SIZES[key[0]]
                size = num_pages * PAGE_BYTES
                self.do(self.residency.on_fetched(key, num_pages, size, FetchSource.DISK))
            for key in tuple(self.loading):
                self.loading.remove(key)
                self.do(self.residency.on_load_ended(key))
            self.do(self.residency.try_operator_loads())
        self.integrity_holds()
        assert not self.calls, f"calls without an answer: {self.calls}"
        assert set(self.table.values()) <= {info.key for info in self.residency.info()}
        assert self.host == {info.key for info in self.residency.info() if info.host_bytes}


TestResidencyMachine = ResidencyMachine.TestCase
TestResidencyMachine.settings = settings(
    max_examples=120,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
