"""Residency, fetcher, loader and table together: from a name to weights that the kernels find."""

import queue
import threading

import pytest
import torch

from kernels.rank_row_table import RankRowTable
from kernels.rank_rows import a_tiles, b_tiles
from services.inference.adapters.io import AdapterIo, IoSizes
from services.inference.adapters.residency import Residency
from services.inference.layer_gates import OPEN_GATES, LoadGates
from services.inference.messages import ResidencyState
from services.inference.page_pool import PagePool
from tests.unit.inference.adapters.lora_files import (
    DOWN1,
    INNER,
    Q0,
    SITES,
    DirectoryReader,
    linear,
    write,
)
from tests.unit.inference.step_log import StepLog

PAGE_ELEMENTS, NUM_PAGES = 128, 8
SITE_LAYERS = (0, 0, 1, 1, 0, 2)


class Rig:
    def __init__(self, tmp_path):
        pool_E = torch.full((NUM_PAGES * PAGE_ELEMENTS,), torch.nan)
        self.table = RankRowTable(pool_E, SITES, 4, 64, PAGE_ELEMENTS)
        self.pool = PagePool(NUM_PAGES)
        self.residency = Residency(self.pool, 4, 1 << 20)
        self.reader = DirectoryReader()
        self.posted = queue.SimpleQueue()
        self.device = StepLog()
        self.gates = LoadGates(SITE_LAYERS, self.device.make_gate)
        self.io = AdapterIo(
            self.residency,
            self.table,
            self.reader,
            copy_stream=self.device,
            gates=self.gates,
            cache_dir=tmp_path / "cache",
            sizes=IoSizes(
                disk_cache_bytes=1 << 20,
                host_cache_bytes=1 << 20,
                store_threads=2,
                disk_threads=1,
                pack_threads=2,
            ),
            base_weight=lambda site: torch.ones(site.out_features, site.in_features),
            post=self.posted.put,
        )

    def settle(self, num_completions):
        for _ in range(num_completions):
            self.io.execute(self.io.complete(self.posted.get(timeout=10)))

    def bring(self, adapter):
        self.io.execute(self.residency.require(adapter, f"r-{adapter.key}"))
        if self.residency.state(adapter) is ResidencyState.FETCHING:
            self.settle(1)
        self.io.execute(self.residency.try_load(adapter))
        self.settle(1)
        assert self.residency.state(adapter) is ResidencyState.DEVICE


@pytest.fixture
def rig(tmp_path):
    rig = Rig(tmp_path)
    yield rig
    rig.io.check_integrity()
    rig.residency.check_integrity()
    rig.pool.check_integrity()
    rig.io.close()


def test_the_table_finds_the_weights_that_were_in_the_files(rig, tmp_path):
    tensors = linear(Q0, 17, seed=1) | linear(DOWN1, 3, width=INNER, seed=2)
    directory = write(tmp_path / "a", tensors, r=17, rank_pattern={"down_proj": 3})
    adapter = rig.reader.add(directory)
    rig.bring(adapter)
    rows = rig.table.rows(rig.residency.adapter_index(adapter.key))
    assert {site: row.rank for site, row in rows.items()} == {0: 17, 3: 3}
    for module, site in ((Q0, SITES[0]), (DOWN1, SITES[3])):
        a_RI = torch.cat(a_tiles(rig.table, site, rows[site.index]))
        b_RO = torch.cat(b_tiles(rig.table, site, rows[site.index]))
        torch.testing.assert_close(a_RI, tensors[f"{module}.lora_A.weight"], rtol=0, atol=0)
        torch.testing.assert_close(b_RO, tensors[f"{module}.lora_B.weight"].T, rtol=0, atol=0)


def test_a_load_is_in_the_table_at_once_and_its_steps_wait_on_the_device_until_it_has_ended(rig, tmp_path):
    adapter = rig.reader.add(write(tmp_path / "a", linear(Q0, 4)))
    rig.io.execute(rig.residency.require(adapter, "r"))
    rig.settle(1)
    rig.device.hold()
    assert rig.io.execute(rig.residency.try_load(adapter)) == {}
    index = rig.residency.adapter_index(adapter.key)
    assert set(rig.table.rows(index)) == {0}
    rig.residency.start(adapter.key, "r")
    assert rig.residency.state(adapter) is ResidencyState.LOADING
    assert rig.gates.for_step([index]) is rig.gates
    rig.device.let_go()
    rig.settle(1)
    assert rig.residency.state(adapter) is ResidencyState.DEVICE
    assert rig.gates.for_step([index]) is OPEN_GATES


def test_what_is_being_copied_is_neither_evicted_nor_dropped(rig, tmp_path):
    adapter = rig.reader.add(write(tmp_path / "a", linear(Q0, 4)))
    rig.io.execute(rig.residency.require(adapter, "r"))
    rig.settle(1)
    rig.device.hold()
    rig.io.execute(rig.residency.try_load(adapter))
    rig.residency.leave(adapter.key, "r")
    rig.io.execute(rig.residency.unload(adapter.key, adapter.tenant, ResidencyState.HOST, 1))
    rig.io.execute(rig.residency.evict_idle(NUM_PAGES))
    rig.io.check_integrity()
    assert rig.pool.num_free == NUM_PAGES - 1
    assert rig.residency.info()[0].host_bytes
    rig.device.let_go()
    rig.settle(1)
    assert rig.pool.num_free == NUM_PAGES
    assert rig.residency.info() == ()


def test_pages_of_a_load_that_failed_come_back_when_the_device_is_done(rig, tmp_path):
    adapter = rig.reader.add(write(tmp_path / "a", linear(Q0, 4)))
    rig.io.execute(rig.residency.require(adapter, "r"))
    rig.settle(1)
    rig.device.hold()
    rig.device.fails = True
    failed = rig.io.execute(rig.residency.try_load(adapter))
    assert failed.keys() == {adapter.key}
    assert rig.residency.error(adapter) is failed[adapter.key]
    assert not rig.residency.is_ready(adapter)
    assert rig.pool.num_free == NUM_PAGES - 1
    rig.device.let_go()
    rig.settle(1)
    assert rig.pool.num_free == NUM_PAGES
    rig.residency.leave(adapter.key, "r")
    rig.device.fails = False
    rig.bring(adapter)


def test_close_waits_for_copies_under_way(tmp_path):
    rig = Rig(tmp_path)
    adapter = rig.reader.add(write(tmp_path / "a", linear(Q0, 4)))
    rig.io.execute(rig.residency.load(adapter, ResidencyState.DEVICE, False, 1))
    rig.device.hold()
    rig.settle(1)
    closing = threading.Thread(target=rig.io.close)
    closing.start()
    assert rig.device.is_waited_for.wait(10)
    assert closing.is_alive()
    rig.device.let_go()
    closing.join(10)
    assert not closing.is_alive()


def test_more_adapters_than_fit_take_turns_and_each_keeps_its_own_weights(rig, tmp_path):
    adapters, tensors = [], []
    for i in range(5):
        tensors.append(linear(Q0, 16, seed=i))
        adapters.append(rig.reader.add(write(tmp_path / str(i), tensors[i], r=16), str(i)))
    for _ in range(2):
        for adapter, expected in zip(adapters, tensors, strict=True):
            rig.bring(adapter)
            index = rig.residency.adapter_index(adapter.key)
            found = torch.cat(a_tiles(rig.table, SITES[0], rig.table.rows(index)[0]))
            torch.testing.assert_close(found, expected[f"{Q0}.lora_A.weight"], rtol=0, atol=0)
            rig.residency.leave(adapter.key, f"r-{adapter.key}")
    assert rig.residency.counters.device_evictions >= 8
    live = [rig.table.rows(i) for i in range(4) if rig.table.rows(i)]
    assert len(live) == rig.residency.counters.resident_adapters


def test_unload_frees_table_pages_and_host_copy(rig, tmp_path):
    adapter = rig.reader.add(write(tmp_path / "a", linear(Q0, 4)))
    rig.io.execute(rig.residency.load(adapter, ResidencyState.DEVICE, True, 1))
    rig.settle(2)
    rig.io.execute(rig.residency.unload(adapter.key, adapter.tenant, ResidencyState.HOST, 2))
    (_, info), (_, freed) = rig.residency.take_completed()
    assert (freed.device_bytes, freed.host_bytes) == (info.device_bytes, info.host_bytes)
    assert freed.device_bytes == PAGE_ELEMENTS * 4
    assert rig.pool.num_free == NUM_PAGES
    assert all(rig.table.rows(index) == {} for index in range(4))
