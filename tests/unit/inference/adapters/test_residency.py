"""Residency one rule at a time; test_residency_machine drives them all at random."""

from dataclasses import replace

import pytest

from services.common.errors import Code, Reason, ServiceError
from services.inference.adapters.residency import ClearTable, DropHost, Fetch, FetchSource, Load
from services.inference.messages import AdapterInfo, Freed, ResidencyState
from services.inference.page_pool import PageUse
from tests.unit.inference.adapters.residency_model import PAGE_BYTES, Rig, adapter

REMOTE, FETCHING, HOST = ResidencyState.REMOTE, ResidencyState.FETCHING, ResidencyState.HOST
LOADING, DEVICE = ResidencyState.LOADING, ResidencyState.DEVICE
DOWN = ServiceError(Code.UNAVAILABLE, Reason.STORE_UNAVAILABLE, "the store is down")


@pytest.fixture
def rig():
    rig = Rig()
    yield rig
    rig.residency.check_integrity()
    rig.pool.check_integrity()


def key(name):
    return adapter(name).key


def test_an_adapter_goes_all_the_way_once_for_all_who_wait(rig):
    assert rig.state("a") is REMOTE
    assert rig.residency.require(adapter("a"), "r1") == [Fetch(adapter("a"))]
    assert rig.residency.require(adapter("a"), "r2") == []
    assert rig.state("a") is FETCHING
    assert rig.fetched("a") == []
    assert rig.state("a") is HOST
    [load] = rig.residency.try_load(adapter("a"))
    assert load == Load(key("a"), rig.residency.adapter_index(key("a")), load.pages)
    assert len(load.pages) == 2
    assert rig.residency.is_loading
    assert repr(rig.residency) == "Residency(REMOTE=0, FETCHING=0, HOST=0, LOADING=1, DEVICE=0)"
    assert rig.residency.on_load_ended(key("a")) == []
    assert not rig.residency.is_loading
    rig.residency.start(key("a"), "r1")
    rig.residency.start(key("a"), "r2")
    [info] = rig.residency.info()
    assert (info.running_requests, info.waiting_requests) == (2, 0)
    assert (info.device_bytes, info.host_bytes) == (2 * PAGE_BYTES, 2 * PAGE_BYTES)
    rig.residency.requeue(key("a"), "r1")
    rig.residency.stop(key("a"), "r2")
    rig.residency.leave(key("a"), "r1")
    assert rig.state("a") is DEVICE
    assert repr(rig.residency) == "Residency(REMOTE=0, FETCHING=0, HOST=0, LOADING=0, DEVICE=1)"


def test_counters_say_in_which_tier_requests_found_their_adapter(rig):
    rig.to_device("a", "r1")
    rig.residency.require(adapter("a"), "r2")
    rig.to_host("b", "r3")
    rig.residency.require(adapter("b"), "r4")
    rig.residency.try_load(adapter("b"))
    rig.residency.require(adapter("b"), "r5")
    rig.residency.require(adapter("c"), "r6")
    rig.fetched("c", source=FetchSource.DISK)
    counters = rig.residency.counters
    assert (counters.device_hits, counters.host_hits) == (1, 2)
    assert (counters.store_fetches, counters.disk_hits, counters.fetch_failures) == (2, 1, 0)
    assert (counters.host_bytes, counters.resident_adapters) == (6 * PAGE_BYTES, 2)


def test_weights_of_several_names_are_one_adapter_shown_by_the_last(rig):
    rig.to_device("a", "r1")
    again = replace(adapter("a"), version_name="tenants/t/adapters/copy/versions/7")
    assert rig.residency.load(again, DEVICE, False, 1) == []
    [info] = rig.residency.info()
    assert (info.version_name, info.residency) == (again.version_name, DEVICE)
    [(_, loaded)] = rig.residency.take_completed()
    assert loaded == info


def test_a_failed_fetch_is_told_to_those_who_waited_and_then_forgotten(rig):
    rig.residency.require(adapter("a"), "r1")
    rig.residency.require(adapter("a"), "r2")
    rig.residency.on_fetch_failed(key("a"), DOWN)
    assert rig.residency.error(adapter("a")) is DOWN
    assert rig.state("a") is REMOTE
    rig.residency.leave(key("a"), "r1")
    assert rig.residency.error(adapter("a")) is DOWN
    rig.residency.leave(key("a"), "r2")
    assert rig.residency.error(adapter("a")) is None
    assert rig.residency.info() == ()
    assert rig.residency.require(adapter("a"), "r3") == [Fetch(adapter("a"))]
    assert rig.residency.counters.fetch_failures == 1


def test_a_failed_fetch_that_nobody_waits_for_leaves_nothing(rig):
    rig.residency.require(adapter("a"), "r1")
    rig.residency.leave(key("a"), "r1")
    rig.residency.on_fetch_failed(key("a"), DOWN)
    assert rig.residency.info() == ()


def test_least_recently_used_idle_adapters_make_room_for_a_load(rig):
    for name in "abc":
        rig.to_idle(name, 3)
    rig.residency.require(adapter("a"), "again")
    rig.residency.start(key("a"), "again")
    rig.residency.stop(key("a"), "again")
    index_b = rig.residency.adapter_index(key("b"))
    rig.to_host("d", "r", 4)
    io = rig.residency.try_load(adapter("d"))
    assert io[0] == ClearTable(index_b)
    assert isinstance(io[1], Load)
    assert [rig.state(name) for name in "abcd"] == [DEVICE, HOST, DEVICE, LOADING]
    assert rig.residency.counters.device_evictions == 1


def test_running_and_pinned_adapters_are_never_evicted_and_nothing_changes_in_vain(rig):
    rig.to_device("a", "r1", 4)
    rig.residency.start(key("a"), "r1")
    rig.residency.load(adapter("b"), DEVICE, True, 1)
    rig.fetched("b", 4)
    rig.residency.on_load_ended(key("b"))
    rig.to_idle("c", 1)
    rig.to_host("d", "r2", 3)
    assert rig.residency.try_load(adapter("d")) is None
    assert rig.residency.evict_idle(3) == []
    assert [rig.state(name) for name in "abcd"] == [DEVICE, DEVICE, DEVICE, HOST]
    assert len(rig.residency.evict_idle(2)) == 1
    assert rig.state("c") is HOST


def test_adapters_somebody_waits_for_are_evicted_last():
    rig = Rig(num_pages=10)
    rig.to_device("a", "waits", 4)
    rig.to_idle("b", 4)
    rig.residency.evict_idle(5)
    assert [rig.state(name) for name in "ab"] == [DEVICE, HOST]
    rig.residency.evict_idle(9)
    assert [rig.state(name) for name in "ab"] == [HOST, HOST]


def test_a_table_row_is_needed_too():
    rig = Rig(num_table_rows=2)
    rig.to_idle("a", 1)
    rig.to_device("b", "r", 1)
    rig.residency.start(key("b"), "r")
    rig.to_host("c", "r2", 1)
    assert rig.residency.try_load(adapter("c")) is not None
    assert [rig.state(name) for name in "abc"] == [HOST, DEVICE, LOADING]
    rig.to_host("d", "r3", 1)
    assert rig.residency.try_load(adapter("d")) is None


def test_evicted_without_a_host_copy_but_wanted_is_fetched_again():
    rig = Rig(host_pages=4)
    rig.to_device("a", "r1", 4)
    rig.to_host("b", "r2", 4)
    assert [info.host_bytes for info in rig.residency.info()] == [0, 4 * PAGE_BYTES]
    io = rig.residency.evict_idle(10)
    assert io == [ClearTable(io[0].adapter_index), Fetch(adapter("a"))]
    assert rig.state("a") is FETCHING


def test_host_copies_over_capacity_go_least_recently_used_first():
    rig = Rig(host_pages=6)
    for name in "abc":
        rig.to_host(name, "r", 2)
        rig.residency.leave(key(name), "r")
    rig.residency.require(adapter("a"), "r")
    rig.residency.leave(key("a"), "r")
    rig.residency.require(adapter("d"), "r")
    assert rig.fetched("d") == [DropHost(key("b"))]
    assert [rig.state(name) for name in "abcd"] == [HOST, REMOTE, HOST, HOST]
    assert rig.residency.counters.host_evictions == 1
    assert rig.residency.counters.host_bytes == 6 * PAGE_BYTES


def test_a_host_copy_that_is_waited_for_or_being_loaded_stays_over_capacity():
    rig = Rig(host_pages=1)
    rig.to_host("a", "r1", 2)
    rig.to_host("b", "r2", 2)
    rig.residency.try_load(adapter("a"))
    assert rig.residency.counters.host_bytes == 4 * PAGE_BYTES
    assert rig.residency.on_load_ended(key("a")) == [DropHost(key("a"))]
    rig.residency.leave(key("b"), "r2")
    assert rig.residency.try_operator_loads() == [DropHost(key("b"))]
    rig.residency.check_integrity()


def test_an_adapter_as_large_as_the_pool_is_refused_with_what_to_do(rig):
    rig.residency.load(adapter("a"), DEVICE, False, 7)
    rig.residency.require(adapter("a"), "r1")
    assert rig.fetched("a", 10) == [DropHost(key("a"))]
    error = rig.residency.error(adapter("a"))
    assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, Reason.ADAPTER_NOT_LOADABLE)
    assert "--pool-bytes" in error.message
    assert rig.residency.take_completed() == [(7, error)]
    rig.residency.leave(key("a"), "r1")
    assert rig.residency.info() == ()


def test_requests_start_while_it_is_copied_and_pages_and_host_copy_stay_until_that_has_ended():
    rig = Rig(host_pages=1)
    rig.to_host("a", "r1")
    rig.residency.try_load(adapter("a"))
    assert rig.residency.is_ready(adapter("a"))
    rig.residency.start(key("a"), "r1")
    rig.residency.requeue(key("a"), "r1")
    rig.residency.start(key("a"), "r1")
    rig.residency.stop(key("a"), "r1")
    rig.residency.check_integrity()
    assert rig.residency.evict_idle(10) == []
    assert rig.residency.unload(key("a"), "t", HOST, 1) == []
    assert rig.residency.take_completed() == []
    clear, drop = rig.residency.on_load_ended(key("a"))
    assert (type(clear), drop) == (ClearTable, DropHost(key("a")))
    assert rig.residency.take_completed() == [(1, Freed(2 * PAGE_BYTES, 2 * PAGE_BYTES))]
    assert rig.residency.info() == ()


def test_an_operator_hears_of_a_load_when_its_copies_have_ended(rig):
    rig.to_host("a", "r1")
    rig.residency.try_load(adapter("a"))
    rig.residency.load(adapter("a"), DEVICE, True, 1)
    assert rig.residency.take_completed() == []
    rig.residency.on_load_ended(key("a"))
    [(_, info)] = rig.residency.take_completed()
    assert (info.residency, info.pinned) == (DEVICE, True)


def test_a_load_that_failed_gives_its_pages_back_when_its_copies_have_ended(rig):
    rig.to_host("a", "r1")
    rig.residency.load(adapter("a"), DEVICE, False, 1)
    rig.residency.on_load_failed(key("a"), DOWN)
    assert rig.residency.error(adapter("a")) is DOWN
    assert rig.residency.take_completed() == [(1, DOWN)]
    assert not rig.residency.is_ready(adapter("a"))
    assert rig.pool.num_held(PageUse.ADAPTER) == 2
    rig.residency.leave(key("a"), "r1")
    assert rig.residency.error(adapter("a")) is None
    rig.residency.require(adapter("a"), "r2")
    assert rig.state("a") is FETCHING, "who comes later waits for the copies, and then loads again"
    rig.residency.check_integrity()
    [clear] = rig.residency.on_load_ended(key("a"))
    assert isinstance(clear, ClearTable)
    assert rig.pool.num_held(PageUse.ADAPTER) == 0
    assert rig.state("a") is HOST
    assert rig.residency.try_load(adapter("a")) is not None
    assert rig.residency.is_ready(adapter("a"))


def test_an_unload_waits_for_the_copies_of_a_load_that_failed(rig):
    rig.to_host("a", "r1")
    rig.residency.try_load(adapter("a"))
    rig.residency.on_load_failed(key("a"), DOWN)
    rig.residency.leave(key("a"), "r1")
    assert rig.residency.unload(key("a"), "t", HOST, 1) == []
    clear, drop = rig.residency.on_load_ended(key("a"))
    assert (type(clear), drop) == (ClearTable, DropHost(key("a")))
    assert rig.residency.take_completed() == [(1, Freed(0, 2 * PAGE_BYTES))]


# ---- operators


def test_load_answers_when_the_tier_is_reached(rig):
    assert rig.residency.load(adapter("a"), HOST, False, 1) == [Fetch(adapter("a"))]
    assert rig.residency.take_completed() == []
    rig.fetched("a")
    [(call_id, info)] = rig.residency.take_completed()
    assert (call_id, info.residency, info.pinned) == (1, HOST, False)
    [load] = rig.residency.load(adapter("a"), DEVICE, True, 2)
    assert isinstance(load, Load)
    rig.residency.on_load_ended(key("a"))
    [(call_id, info)] = rig.residency.take_completed()
    assert (call_id, info.residency, info.pinned) == (2, DEVICE, True)


def test_a_load_without_room_waits_for_it(rig):
    rig.to_device("a", "r1", 6)
    rig.residency.start(key("a"), "r1")
    rig.residency.load(adapter("b"), DEVICE, False, 1)
    assert rig.fetched("b", 5) == []
    assert rig.residency.try_operator_loads() == []
    rig.residency.stop(key("a"), "r1")
    assert [type(order) for order in rig.residency.try_operator_loads()] == [ClearTable, Load]


def test_a_load_that_cannot_be_fetched_is_answered_with_the_error(rig):
    rig.residency.load(adapter("a"), DEVICE, True, 1)
    rig.residency.on_fetch_failed(key("a"), DOWN)
    assert rig.residency.take_completed() == [(1, DOWN)]
    assert rig.residency.info() == ()


def test_pins_may_take_half_the_pool(rig):
    for call_id, name in enumerate("ab"):
        rig.residency.load(adapter(name), DEVICE, True, call_id)
        io = rig.fetched(name, 3)
        if io:
            rig.residency.on_load_ended(key(name))
    (_, first), (_, second) = rig.residency.take_completed()
    assert isinstance(first, AdapterInfo)
    assert isinstance(second, ServiceError)
    assert second.reason is Reason.ADAPTER_NOT_LOADABLE
    assert "unload a pinned adapter" in second.message
    assert [info.pinned for info in rig.residency.info()] == [True, False]


def test_host_pins_keep_the_host_copy_and_may_take_half_the_cache():
    rig = Rig(host_pages=4)
    rig.residency.load(adapter("a"), HOST, True, 1)
    rig.fetched("a", 2)
    rig.residency.load(adapter("b"), HOST, True, 2)
    rig.fetched("b", 2)
    rig.residency.load(adapter("c"), HOST, False, 3)
    assert rig.fetched("c", 2) == [DropHost(key("b"))]
    (_, first), (_, second), (_, third) = rig.residency.take_completed()
    assert first.pinned
    assert second.reason is Reason.ADAPTER_NOT_LOADABLE
    assert third.residency is HOST
    rig.residency.check_integrity()


def test_what_pins_crowd_out_is_refused_not_left_waiting(rig):
    rig.residency.load(adapter("a"), DEVICE, True, 1)
    rig.fetched("a", 5)
    rig.residency.on_load_ended(key("a"))
    rig.to_host("b", "r", 5)
    assert rig.residency.try_load(adapter("b")) is None
    error = rig.residency.error(adapter("b"))
    assert error.reason is Reason.ADAPTER_NOT_LOADABLE
    assert "unload a pinned adapter" in error.message
    rig.residency.leave(key("b"), "r")
    assert rig.residency.error(adapter("b")) is None


def test_unload_of_an_idle_adapter_frees_at_once(rig):
    rig.to_idle("a")
    [clear] = rig.residency.unload(key("a"), "t", DEVICE, 1)
    assert isinstance(clear, ClearTable)
    assert rig.state("a") is HOST
    assert rig.residency.unload(key("a"), "t", HOST, 2) == [DropHost(key("a"))]
    size = 2 * PAGE_BYTES
    assert rig.residency.take_completed() == [(1, Freed(size, 0)), (2, Freed(0, size))]
    assert rig.residency.info() == ()
    assert rig.pool.num_free == 10


def test_unload_drains_and_those_who_wait_bring_it_back(rig):
    rig.to_device("a", "r1")
    rig.residency.start(key("a"), "r1")
    assert rig.residency.unload(key("a"), "t", HOST, 1) == []
    assert rig.residency.require(adapter("a"), "r2") == []
    assert rig.state("a") is FETCHING, "no new use while it drains"
    assert rig.residency.take_completed() == []
    rig.residency.stop(key("a"), "r1")
    assert rig.residency.take_completed() == [(1, Freed(2 * PAGE_BYTES, 2 * PAGE_BYTES))]
    io = rig.residency.try_operator_loads()
    assert io[1:] == [DropHost(key("a")), Fetch(adapter("a"))]
    rig.fetched("a")
    assert rig.state("a") is HOST


def test_unload_unpins_and_ends_loads_that_are_not_done(rig):
    rig.residency.load(adapter("a"), DEVICE, True, 1)
    rig.residency.unload(key("a"), "t", HOST, 2)
    [(call_id, error)] = rig.residency.take_completed()
    assert (call_id, error.reason) == (1, Reason.ADAPTER_NOT_LOADABLE)
    assert rig.fetched("a") == [DropHost(key("a"))]
    assert rig.residency.take_completed() == [(2, Freed(0, 2 * PAGE_BYTES))]
    rig.residency.load(adapter("b"), DEVICE, True, 3)
    rig.fetched("b")
    rig.residency.on_load_ended(key("b"))
    rig.residency.unload(key("b"), "t", DEVICE, 4)
    assert [info.pinned for info in rig.residency.info()] == [False]


def test_unload_of_what_is_not_here_is_not_found(rig):
    assert rig.residency.unload(key("a"), "t", HOST, 1) == []
    [(call_id, error)] = rig.residency.take_completed()
    assert (call_id, error.code) == (1, Code.NOT_FOUND)


def test_misuse_is_an_assertion(rig):
    rig.to_host("a", "r1")
    with pytest.raises(AssertionError, match="waits already"):
        rig.residency.require(adapter("a"), "r1")
    with pytest.raises(AssertionError, match="is HOST"):
        rig.residency.on_load_ended(key("a"))
    with pytest.raises(AssertionError, match="is HOST"):
        rig.residency.start(key("a"), "r1")


def test_a_load_ahead_evicts_the_idle_but_nobody_who_is_waited_for():
    rig = Rig(num_pages=6)
    rig.to_idle("a")
    rig.to_device("b", "r-b")
    rig.to_host("c", "r-c")
    rig.to_host("d", "r-d")
    assert rig.residency.try_load(adapter("c"), spare_pages=0) is not None
    assert (rig.state("a"), rig.state("b"), rig.state("c")) == (DEVICE, DEVICE, LOADING)
    assert rig.residency.try_load(adapter("d"), spare_pages=1) is None
    assert rig.residency.try_load(adapter("d"), spare_pages=0) is not None
    assert (rig.state("a"), rig.state("b"), rig.state("d")) == (HOST, DEVICE, LOADING)
    rig.to_host("e", "r-e")
    assert rig.residency.try_load(adapter("e"), spare_pages=0) is None
    assert rig.residency.try_load(adapter("e")) is not None
