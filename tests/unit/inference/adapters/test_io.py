"""Residency, fetcher, loader and table together: from a name to weights that the kernels find."""

import queue
import threading

import pytest
import torch

from kernels.rank_row_table import RankRowTable
from kernels.rank_rows import a_tiles, b_tiles
from kernels.table_row import TableShape
from services.inference.adapters.adapter_weights import read_adapter_weights
from services.inference.adapters.completions import Loaded, LoadFailed
from services.inference.adapters.host_arena import HostPages
from services.inference.adapters.io import AdapterIo, IoSizes
from services.inference.adapters.loader import Loader
from services.inference.adapters.packing import PackedAdapter
from services.inference.adapters.residency import Residency
from services.inference.messages import ResidencyState
from services.inference.page_pool import PagePool
from tests.unit.inference.adapters.fetch_parts import packed as pack
from tests.unit.inference.adapters.lora_files import (
    DOWN1,
    INNER,
    Q0,
    SITES,
    DirectoryReader,
    linear,
    write,
)

PAGE_ELEMENTS, NUM_PAGES = 128, 8
ROW_SHAPE = TableShape(len(SITES), 8)


class Rig:
    def __init__(self, tmp_path):
        pool_E = torch.full((NUM_PAGES * PAGE_ELEMENTS,), torch.nan)
        self.table = RankRowTable(pool_E, SITES, 4, 64, PAGE_ELEMENTS)
        self.pool = PagePool(NUM_PAGES)
        self.residency = Residency(self.pool, 4, 1 << 20)
        self.reader = DirectoryReader()
        self.posted = queue.SimpleQueue()
        self.io = AdapterIo(
            self.residency,
            self.table,
            self.reader,
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


def test_a_half_copied_adapter_is_in_no_table(rig, tmp_path):
    adapter = rig.reader.add(write(tmp_path / "a", linear(Q0, 4)))
    rig.io.execute(rig.residency.require(adapter, "r"))
    rig.settle(1)
    rig.io.execute(rig.residency.try_load(adapter))
    completion = rig.posted.get(timeout=10)
    index = rig.residency.adapter_index(adapter.key)
    assert rig.table.rows(index) == {}
    rig.io.execute(rig.io.complete(completion))
    assert set(rig.table.rows(index)) == {0}


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


def test_a_copy_that_fails_is_told(tmp_path):
    weights = read_adapter_weights(write(tmp_path / "a", linear(Q0, 4)), SITES, 64)
    packed = pack(weights, PAGE_ELEMENTS)
    posted = queue.SimpleQueue()
    loader = Loader(torch.zeros(2, PAGE_ELEMENTS), ROW_SHAPE, posted.put)
    loader.submit(packed, range(1, 1 + packed.num_pages))
    loader.submit(PackedAdapter(packed.key, 4, HostPages((0,), (torch.zeros(3),)), ()), [0])
    assert isinstance(posted.get(timeout=10), Loaded)
    failed = posted.get(timeout=10)
    assert isinstance(failed, LoadFailed)
    assert "incident" in failed.error.message
    loader.close()


def test_a_copy_holds_up_nobody_who_asks_for_one(tmp_path):
    weights = read_adapter_weights(write(tmp_path / "a", linear(Q0, 4)), SITES, 64)
    packed = pack(weights, PAGE_ELEMENTS)
    under_way, go_on, posted = threading.Event(), threading.Event(), queue.SimpleQueue()

    def post(completion):
        under_way.set()
        assert go_on.wait(10)
        posted.put(completion)

    loader = Loader(torch.zeros(2 * packed.num_pages, PAGE_ELEMENTS), ROW_SHAPE, post)
    loader.submit(packed, range(packed.num_pages))
    assert under_way.wait(10)
    loader.submit(packed, range(packed.num_pages, 2 * packed.num_pages))
    assert posted.empty()
    go_on.set()
    assert all(isinstance(posted.get(timeout=10), Loaded) for _ in range(2))
    loader.close()
