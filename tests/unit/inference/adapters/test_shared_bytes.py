"""The same bytes in several tenants: one adapter, of which each tenant sees and controls its own use."""

import pytest

from services.common.errors import Code, Reason, ServiceError
from services.inference.adapters.residency import ClearTable, DropHost, Fetch
from services.inference.messages import Freed, ResidencyState, UnloadAdapter
from tests.unit.inference import engine_world
from tests.unit.inference.adapters.residency_model import PAGE_BYTES, Rig, adapter

HOST, DEVICE, REMOTE = ResidencyState.HOST, ResidencyState.DEVICE, ResidencyState.REMOTE
BROKEN = ServiceError(Code.INTERNAL, Reason.INTERNAL_ERROR, "no copy engine")
SIZE = 2 * PAGE_BYTES


@pytest.fixture
def rig():
    rig = Rig(num_pages=20, num_table_rows=8)
    yield rig
    rig.residency.check_integrity()
    rig.pool.check_integrity()


def key(name):
    return adapter(name).key


def names(rig):
    return [info.version_name for info in rig.residency.info()]


def shared(rig):
    """Idle in the pool for both t and u."""
    rig.to_idle("a")
    rig.join("a", "u", "r-u")
    rig.residency.leave(key("a"), "r-u")


def test_the_bytes_are_fetched_and_held_once(rig):
    shared(rig)
    assert names(rig) == ["tenants/t/adapters/a/versions/1", "tenants/u/adapters/a/versions/1"]
    assert rig.pool.num_free == 18
    counters = rig.residency.counters
    assert (counters.store_fetches, counters.host_bytes, counters.resident_adapters) == (1, SIZE, 1)


def test_a_tenant_that_never_used_them_sees_and_unloads_nothing(rig):
    rig.to_idle("a")
    assert rig.state("a", "u") is REMOTE
    rig.residency.unload(key("a"), "u", HOST, 1)
    [(_, answer)] = rig.residency.take_completed()
    assert answer.code is Code.NOT_FOUND
    assert rig.state("a") is DEVICE


def test_an_unload_frees_nothing_that_another_holds_and_says_what_it_would_alone(rig):
    shared(rig)
    assert rig.residency.unload(key("a"), "t", HOST, 1) == []
    assert rig.residency.take_completed() == [(1, Freed(SIZE, SIZE))]
    assert names(rig) == ["tenants/u/adapters/a/versions/1"]
    assert rig.state("a", "u") is DEVICE
    io = rig.residency.unload(key("a"), "u", HOST, 2)
    assert [type(order) for order in io] == [ClearTable, DropHost]
    assert rig.residency.take_completed() == [(2, Freed(SIZE, SIZE))]
    assert rig.residency.info() == ()


def test_an_unload_from_the_pool_alone_keeps_the_tenants_host_copy(rig):
    shared(rig)
    rig.residency.unload(key("a"), "t", DEVICE, 1)
    assert rig.residency.take_completed() == [(1, Freed(SIZE, 0))]
    assert [rig.state("a", tenant) for tenant in "tu"] == [HOST, DEVICE]
    [mine, _] = rig.residency.info()
    assert (mine.residency, mine.device_bytes, mine.host_bytes) == (HOST, 0, SIZE)
    [clear] = rig.residency.unload(key("a"), "u", HOST, 2)
    assert isinstance(clear, ClearTable)
    assert names(rig) == ["tenants/t/adapters/a/versions/1"]


def test_an_unload_waits_for_the_tenants_own_requests_and_holds_up_no_other(rig):
    rig.to_device("a", "r-t")
    rig.residency.start(key("a"), "r-t")
    rig.residency.unload(key("a"), "t", HOST, 1)
    rig.join("a", "u", "r-u")
    assert rig.state("a", "u") is DEVICE
    rig.residency.start(key("a"), "r-u")
    assert rig.residency.take_completed() == []
    rig.residency.stop(key("a"), "r-t")
    assert rig.residency.take_completed() == [(1, Freed(SIZE, SIZE))]
    assert [info.running_requests for info in rig.residency.info()] == [1]


def test_pins_are_each_tenants_own(rig):
    shared(rig)
    for call_id, tenant in enumerate("tu"):
        rig.residency.load(adapter("a", tenant), DEVICE, True, call_id)
    rig.residency.unload(key("a"), "t", HOST, 2)
    [info] = rig.residency.info()
    assert (info.version_name, info.pinned) == ("tenants/u/adapters/a/versions/1", True)
    assert rig.residency.evict_idle(20) == []
    rig.residency.unload(key("a"), "u", DEVICE, 3)
    assert rig.state("a", "u") is HOST


def test_a_second_pin_of_the_same_bytes_takes_no_more_of_the_half(rig):
    rig.residency.load(adapter("a"), DEVICE, True, 1)
    rig.fetched("a", 9)
    rig.residency.on_load_ended(key("a"))
    rig.residency.load(adapter("a", "u"), DEVICE, True, 2)
    assert [info.pinned for info in rig.residency.info()] == [True, True]


def test_they_count_for_each_tenant_that_uses_them(rig):
    rig.residency.tenants.set_quota("u", 4 * PAGE_BYTES)
    rig.to_idle("a", 3)
    rig.to_idle("b", 3)
    rig.join("a", "u", "r1")
    rig.residency.start(key("a"), "r1")
    rig.residency.require(adapter("b", "u"), "r2")
    assert rig.residency.try_load(adapter("b", "u")) is None
    assert rig.residency.waits_for_tenant(adapter("b", "u"))
    rig.residency.stop(key("a"), "r1")
    assert rig.residency.try_load(adapter("b", "u")) == [], "nothing is evicted: t holds it still"
    assert [rig.state("a", tenant) for tenant in "tu"] == [DEVICE, HOST]
    assert repr(rig.residency.tenants) == "TenantRoom(tenants=2, bytes=900, quotas=1)"


def test_one_tenants_quota_refuses_no_other(rig):
    rig.residency.tenants.set_quota("u", PAGE_BYTES)
    rig.to_host("a", "r-t")
    rig.residency.require(adapter("a", "u"), "r-u")
    assert rig.residency.try_load(adapter("a", "u")) is None
    assert rig.residency.error(adapter("a", "u")).reason is Reason.QUOTA_EXCEEDED
    assert rig.residency.error(adapter("a")) is None
    assert rig.residency.try_load(adapter("a")) is not None
    rig.residency.leave(key("a"), "r-u")


def test_a_fetch_that_fails_by_one_name_is_made_again_by_the_others(rig):
    gone = ServiceError(Code.NOT_FOUND, Reason.VERSION_NOT_FOUND, "tenants/t/adapters/a/versions/1 is gone")
    assert rig.residency.require(adapter("a"), "r-t") == [Fetch(adapter("a"))]
    assert rig.residency.require(adapter("a", "u"), "r-u") == []
    assert rig.residency.on_fetch_failed(key("a"), gone) == [Fetch(adapter("a", "u"))]
    assert rig.residency.error(adapter("a")) is gone
    assert rig.residency.error(adapter("a", "u")) is None
    rig.fetched("a")
    assert rig.state("a", "u") is HOST
    rig.residency.leave(key("a"), "r-t")


def test_a_refusal_names_the_asking_tenants_version(rig):
    rig.residency.require(adapter("a"), "r-t")
    rig.residency.require(adapter("a", "u"), "r-u")
    rig.fetched("a", 20)
    for tenant in "tu":
        message = rig.residency.error(adapter("a", tenant)).message
        assert f"tenants/{tenant}/adapters/a/versions/1 needs 20 pages" in message
    rig.residency.leave(key("a"), "r-t")
    rig.residency.leave(key("a"), "r-u")


def test_a_host_copy_that_goes_takes_the_tenants_that_held_only_that():
    rig = Rig(num_pages=20, num_table_rows=8, host_pages=2)
    shared(rig)
    rig.residency.unload(key("a"), "t", DEVICE, 1)
    rig.to_host("b", "r")
    assert names(rig) == ["tenants/t/adapters/b/versions/1", "tenants/u/adapters/a/versions/1"]
    rig.residency.leave(key("b"), "r")
    rig.residency.check_integrity()


def test_requests_of_both_run_on_one_copy_while_one_tenant_unloads():
    world = engine_world.World()
    world.submit("t1", on="a", max_tokens=20)
    for _ in range(4):
        world.step()
        world.finish_io()
    world.submit("u1", on="a", tenant="u", max_tokens=20)
    world.step()
    assert world.runner.batches[-1] == ("t1", "u1")
    world.engine.handle(UnloadAdapter(1, engine_world.adapter("a").key, "u", HOST))
    world.submit("t2", on="a", max_tokens=2)
    world.step()
    assert "t2" in world.runner.batches[-1], "another tenant's unload holds up nobody"
    world.run()
    assert len(world.ended) == 3
    assert world.residency.state(engine_world.adapter("a")) is DEVICE
    assert world.residency.state(engine_world.adapter("a", "u")) is REMOTE
    world.engine.check_idle()


def test_a_tenant_may_start_on_what_another_s_load_is_still_copying(rig):
    rig.to_host("a", "r1")
    rig.residency.try_load(adapter("a"))
    rig.join("a", "u", "r2")
    assert rig.residency.is_ready(adapter("a", "u"))
    rig.residency.start(key("a"), "r2")
    rig.residency.check_integrity()
    assert rig.residency.on_load_ended(key("a")) == []
    assert rig.state("a", "u") is DEVICE


def test_a_load_that_failed_lets_no_other_tenant_in_until_its_copies_have_ended(rig):
    rig.to_host("a", "r1")
    rig.residency.try_load(adapter("a"))
    rig.residency.on_load_failed(key("a"), BROKEN)
    rig.residency.require(adapter("a", "u"), "r2")
    assert rig.residency.error(adapter("a", "u")) is None
    assert rig.residency.try_load(adapter("a", "u")) is None
    assert not rig.residency.is_ready(adapter("a", "u"))
    rig.residency.on_load_ended(key("a"))
    assert rig.residency.try_load(adapter("a", "u")) is not None
    assert rig.residency.is_ready(adapter("a", "u"))
    assert rig.residency.error(adapter("a")) is BROKEN
