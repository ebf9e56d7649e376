import asyncio

import pytest

from services.common.errors import Reason, unavailable
from services.inference.lease_keeper import MAX_KEYS, LeaseKeeper
from services.inference.messages import AdapterInfo, ResidencyState


class Store:
    """Keeps leases; `failing` calls fail. `changed` is set by each call."""

    def __init__(self):
        self.leases = {}
        self.failing = 0
        self.calls = 0
        self.changed = asyncio.Event()

    async def acquire_lease(self, lease_id, holder, keys, ttl_s):
        self._call()
        assert holder == "here"
        self.leases[lease_id] = list(keys)

    async def release_lease(self, lease_id):
        self._call()
        self.leases.pop(lease_id, None)

    def _call(self):
        self.calls += 1
        self.changed.set()
        if self.failing:
            self.failing -= 1
            raise unavailable(Reason.STORE_UNAVAILABLE, "away", 1.0)

    def kept(self):
        return sorted(key for keys in self.leases.values() for key in keys)

    async def until(self, keys):
        while self.kept() != sorted(keys):
            self.changed.clear()
            await asyncio.wait_for(self.changed.wait(), 10)


def info(key):
    return AdapterInfo(f"v-{key}", key, ResidencyState.HOST, False, 8, 0, 1, 0, 0, 0.0)


@pytest.fixture
async def store():
    return Store()


@pytest.fixture
async def make(store):
    tasks = []

    def make(resident, ttl_s=0.03):
        async def list_resident():
            return [info(key) for key in resident]

        keeper = LeaseKeeper(store, list_resident, "here", ttl_s, gather_s=0.001)
        tasks.append(asyncio.create_task(keeper.run()))
        return keeper

    yield make
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)


async def test_what_is_here_is_leased_and_what_is_gone_is_let_go(store, make):
    resident = {"a", "b"}
    make(resident)
    await store.until(["a", "b"])
    resident.remove("a")
    resident.add("c")
    await store.until(["b", "c"])


async def test_what_is_noted_is_leased_at_once_and_long_before_the_next_renewal(store, make):
    keeper = make(set(), ttl_s=3600)
    keeper.note("a")
    await store.until(["a"])
    keeper.note("b")
    await store.until(["a", "b"])
    calls = store.calls
    keeper.note("a")
    await asyncio.sleep(0)
    assert store.calls == calls


async def test_a_note_lasts_until_the_engine_has_had_time_to_know_of_it(store, make):
    resident = set()
    keeper = make(resident)
    keeper.note("a")
    await store.until(["a"])
    await store.until([])
    keeper.note("a")
    resident.add("a")
    await store.until(["a"])


async def test_a_store_that_is_away_is_no_error_and_is_tried_again(store, make, caplog):
    store.failing = 3
    keeper = make({"a"})
    keeper.note("b")
    await store.until(["a"])
    assert sum("keeps no lease" in message for message in caplog.messages) >= 1


async def test_at_the_end_every_lease_is_released_and_a_store_that_is_away_does_not_matter(store, make):
    keeper = make(set(), ttl_s=3600)
    keeper.note("a")
    await store.until(["a"])
    store.failing = 1
    await keeper.release()
    assert store.kept() == ["a"]
    await keeper.release()
    assert store.leases == {}


async def test_more_keys_than_one_lease_takes_are_split(store, make):
    make({str(number) for number in range(MAX_KEYS + 1)})
    while len(store.leases) < 2:
        store.changed.clear()
        await asyncio.wait_for(store.changed.wait(), 10)
    assert sorted(len(keys) for keys in store.leases.values()) == [1, MAX_KEYS]
