"""What the loader tells the device, and when it tells the loop."""

import queue

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.rank_row_table import RankRowTable
from kernels.rank_rows import a_tiles
from services.inference.adapters.adapter_weights import AdapterWeights
from services.inference.adapters.completions import LoadEnded
from services.inference.adapters.host_arena import HostArena
from services.inference.adapters.loader import MAX_COPY_BYTES, Loader
from services.inference.adapters.packing import pack
from services.inference.adapters.workers import Workers
from services.inference.layer_gates import OPEN_GATES, LoadGates
from tests.unit.inference.adapters.fetch_parts import KEY
from tests.unit.inference.adapters.lora_files import SITES
from tests.unit.inference.adapters.test_packing import no_base, site_weights
from tests.unit.inference.step_log import StepLog

E, NUM_PAGES = 64, 200
# Two layers of two sites, the embedding, the head.
SITE_LAYERS = (0, 0, 1, 1, 0, 2)


class Rig:
    def __init__(self, ranks, max_copy_bytes=MAX_COPY_BYTES):
        self.device = StepLog()
        self.gates = LoadGates(SITE_LAYERS, self.device.make_gate)
        self.table = RankRowTable(torch.full((NUM_PAGES * E,), torch.nan), SITES, 4, 64, E)
        self.posted = queue.SimpleQueue()
        self.breaks_at = None
        self.copied = []
        self.loader = Loader(self.table, self.device, self.gates, self.posted.put, self.copy, max_copy_bytes)
        arena = HostArena(E, torch.float32, NUM_PAGES * E * 4)
        self.weights = AdapterWeights(
            tuple(site_weights(site, rank) for site, rank in zip(SITES, ranks, strict=True) if rank)
        )
        self.packed = pack(KEY, self.weights, arena, self.table.row_shape, no_base, Workers(1))

    def copy(self, target_E, source_E):
        if len(self.copied) == self.breaks_at:
            raise RuntimeError("no copy engine")
        first = target_E.storage_offset() // E
        self.copied.append(range(first, first + len(target_E) // E))
        self.device.add(f"copy {len(self.copied) - 1}")
        target_E.copy_(source_E)


@given(
    ranks=st.lists(st.integers(0, 20), min_size=len(SITES), max_size=len(SITES)).filter(any),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_a_gate_opens_behind_the_last_page_of_what_it_guards(ranks, seed):
    rig = Rig(ranks)
    generator = torch.Generator().manual_seed(seed)
    pages = torch.randperm(NUM_PAGES, generator=generator)[: rig.packed.num_pages].tolist()
    assert rig.loader.submit(rig.packed, 1, pages) is None
    first, *launched, last = rig.device.take()
    assert (first, last) == ("copies: wait for steps", "copies: record end 0")
    live, copies, open_gates = rig.table.rows(1), iter(rig.copied), set()
    there = set()
    for line in launched:
        if line.startswith("copies: copy"):
            there |= set(next(copies))
        else:
            gate = int(line.removeprefix("copies: record gate "))
            open_gates.add(gate)
            for site in live.values():
                if rig.gates.site_gates[site.site] == gate:
                    assert {offset // E for offset in site.a_offsets + site.b_offsets} <= there
    assert there == set(pages)
    assert open_gates == {rig.gates.site_gates[site] for site in live}
    for site in rig.weights.sites:
        found = torch.cat(a_tiles(rig.table, site.site, live[site.site.index]))
        torch.testing.assert_close(found, site.a_RI, rtol=0, atol=0)
    assert rig.posted.get(timeout=10) == LoadEnded(KEY)
    rig.loader.close()


def test_pages_side_by_side_in_both_memories_are_one_copy_between_gates():
    rig = Rig([16, 16, 16, 16, 0, 0])
    num_pages = rig.packed.num_pages
    rig.loader.submit(rig.packed, 1, range(10, 10 + num_pages))
    assert len(rig.copied) == 2, "one a gate"
    rig.loader.submit(rig.packed, 2, range(10 + 3 * num_pages, 10 + 2 * num_pages, -1))
    assert len(rig.copied) == 2 + num_pages
    rig.loader.close()


def test_no_copy_is_so_large_that_a_step_s_own_would_wait_for_it_long():
    rig = Rig([16, 16, 16, 16, 0, 0], max_copy_bytes=2 * E * 4 + 1)
    rig.loader.submit(rig.packed, 1, range(10, 10 + rig.packed.num_pages))
    assert max(len(run) for run in rig.copied) == 2
    assert [page for run in rig.copied for page in run] == list(range(10, 10 + rig.packed.num_pages))
    rig.loader.close()


def test_steps_may_use_the_adapter_before_its_copies_have_ended():
    rig = Rig([4, 0, 0, 0, 0, 0])
    rig.device.hold()
    assert rig.loader.submit(rig.packed, 1, range(rig.packed.num_pages)) is None
    assert rig.gates.for_step([1]) is rig.gates
    assert set(rig.table.rows(1)) == {0}
    assert rig.loader.submit(rig.packed, 2, range(100, 100 + rig.packed.num_pages)) is None
    assert rig.posted.empty()
    rig.device.let_go()
    assert [rig.posted.get(timeout=10) for _ in range(2)] == [LoadEnded(KEY)] * 2
    rig.loader.close()


@pytest.mark.parametrize("breaks_at", [0, 1])
def test_a_load_that_cannot_be_launched_is_good_for_nobody_and_ends_when_the_device_is_done(breaks_at):
    rig = Rig([16, 16, 16, 16, 0, 0])
    rig.device.hold()
    rig.breaks_at = breaks_at
    error = rig.loader.submit(rig.packed, 1, range(rig.packed.num_pages))
    assert "incident" in error.message
    assert rig.gates.for_step([1]) is OPEN_GATES
    assert rig.table.rows(1) == {}
    assert rig.device.is_waited_for.wait(10)
    assert rig.posted.empty()
    rig.device.let_go()
    assert rig.posted.get(timeout=10) == LoadEnded(KEY)
    rig.loader.close()


def test_pages_that_do_not_match_are_refused_before_anything_is_copied():
    rig = Rig([16, 0, 0, 0, 0, 0])
    assert rig.loader.submit(rig.packed, 1, range(rig.packed.num_pages + 1)) is not None
    assert rig.copied == []
    rig.loader.close()


def test_of_a_device_that_failed_nothing_is_said():
    rig = Rig([4, 0, 0, 0, 0, 0])

    def fail():
        raise RuntimeError("an illegal memory access was encountered")

    rig.device.synchronize = fail
    rig.loader.submit(rig.packed, 1, range(rig.packed.num_pages))
    rig.loader.close()
    assert rig.posted.empty(), "pages that the device may still write were given back"
