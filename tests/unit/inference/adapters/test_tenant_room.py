"""Adapters of one tenant in the pool, held to its quota of resident bytes; requests that wait for it."""

import pytest

from services.inference.adapters.residency import ClearTable
from services.inference.messages import Failed, ResidencyState, SetTenantQuota
from tests.unit.inference.adapters.residency_model import PAGE_BYTES, Rig, adapter
from tests.unit.inference.engine_world import World

HOST, DEVICE, LOADING = ResidencyState.HOST, ResidencyState.DEVICE, ResidencyState.LOADING


@pytest.fixture
def rig():
    rig = Rig(num_pages=20, num_table_rows=8)
    yield rig
    rig.residency.check_integrity()


def key(name):
    return adapter(name).key


def limit(rig, num_pages):
    rig.residency.tenants.set_quota("t", num_pages * PAGE_BYTES)


def test_a_tenants_own_idle_adapters_go_first_least_recently_used(rig):
    limit(rig, 6)
    for name in "abc":
        rig.to_idle(name, 2)
    index_a = rig.residency.adapter_index(key("a"))
    rig.to_host("d", "r", 2)
    io = rig.residency.try_load(adapter("d"))
    assert io[0] == ClearTable(index_a)
    assert [rig.state(name) for name in "abcd"] == [HOST, DEVICE, DEVICE, LOADING]
    assert repr(rig.residency.tenants) == "TenantRoom(tenants=1, bytes=600, quotas=1)"


def test_other_tenants_adapters_stay_and_do_not_count(rig):
    limit(rig, 3)
    for name in "ab":
        theirs = adapter(name, "beta")
        rig.residency.require(theirs, "r")
        rig.fetched(name, 4)
        rig.residency.try_load(theirs)
        rig.residency.on_load_ended(key(name))
        rig.residency.leave(key(name), "r")
    rig.to_idle("c", 3)
    rig.to_device("d", "r", 3)
    assert [rig.state(name, "beta") for name in "ab"] == [DEVICE, DEVICE]
    assert [rig.state(name) for name in "cd"] == [HOST, DEVICE]


def test_a_running_adapter_is_waited_for(rig):
    limit(rig, 4)
    rig.to_device("a", "r1", 3)
    rig.residency.start(key("a"), "r1")
    rig.to_host("b", "r2", 3)
    assert rig.residency.try_load(adapter("b")) is None
    assert rig.residency.waits_for_tenant(adapter("b"))
    assert rig.residency.error(adapter("b")) is None
    rig.residency.stop(key("a"), "r1")
    assert not rig.residency.waits_for_tenant(adapter("b"))
    assert rig.residency.try_load(adapter("b")) is not None


def test_what_cannot_fit_alone_or_beside_pins_is_refused_by_name(rig):
    limit(rig, 4)
    rig.to_host("a", "r", 5)
    assert rig.residency.try_load(adapter("a")) is None
    error = rig.residency.error(adapter("a"))
    assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED")
    assert (error.metadata["quota"], error.retry_after_s is not None) == ("max_resident_bytes", True)
    assert "tenants/t/adapters/a/versions/1" in error.message
    rig.to_idle("b", 2)
    rig.residency.load(adapter("b"), DEVICE, True, 1)
    rig.to_host("c", "r", 3)
    assert rig.residency.try_load(adapter("c")) is None
    assert "pinned" in rig.residency.error(adapter("c")).message


def test_a_new_quota_holds_for_what_wants_in_from_then_on(rig):
    rig.to_idle("a", 4)
    rig.to_idle("b", 4)
    limit(rig, 5)
    assert [rig.state(name) for name in "ab"] == [DEVICE, DEVICE]
    rig.to_device("c", "r", 2)
    assert [rig.state(name) for name in "abc"] == [HOST, HOST, DEVICE]
    limit(rig, 0)
    rig.to_device("d", "r", 9)
    assert rig.state("c") is DEVICE


def test_a_tenant_over_its_quota_stops_its_own_requests_alone():
    world = World(num_pages=32)
    world.engine.handle(SetTenantQuota("t", 150))  # one adapter of the world's 100 bytes
    world.submit("a1", on="a", max_tokens=40)
    for _ in range(4):
        world.step()
        world.finish_io()
    world.submit("b1", on="b", max_tokens=2)
    world.finish_io()
    world.submit("a2", on="a", max_tokens=2)
    world.submit("base", max_tokens=2)
    for _ in range(6):
        world.step()
        world.finish_io()
    # The base model's request went past; a2, behind b1 and of the same tenant, did not.
    assert set(world.ended) == {"base"}
    assert "a2" not in world.tokens
    world.run()
    assert set(world.ended) == {"base", "a1", "b1", "a2"}
    assert not any(isinstance(end, Failed) for end in world.ended.values())
    world.engine.check_idle()


def test_a_request_whose_adapter_never_fits_the_quota_fails():
    world = World(num_pages=32)
    world.engine.handle(SetTenantQuota("t", 99))
    world.submit("a1", on="a")
    world.run()
    assert world.ended["a1"].error.metadata["quota"] == "max_resident_bytes"
