"""The loader on a real device: every race over a page and a gate, each with a delay that makes it one."""

import queue
import time

import pytest
import torch

from kernels.lora_site import LoraSite
from kernels.movable_row import MovableRow
from kernels.rank_row_table import RankRowTable
from kernels.table_row import SiteRows
from services.inference.adapters.completions import LoadEnded
from services.inference.adapters.host_arena import HostPages
from services.inference.adapters.loader import Loader
from services.inference.adapters.packing import PackedAdapter
from services.inference.copy_stream import make_copy_stream
from services.inference.layer_gates import LoadGates
from services.inference.request import AdapterKey

NUM_PAGES, PAGE_ELEMENTS = 8, 1 << 20
DELAY_CYCLES = 200_000_000
TIMEOUT_S = 30
# Layers that have a gate each, of four, with one site and one page each; then the head.
LAYERS = (0, 1, 3)
SITE_LAYERS = (*LAYERS, 4)
SITES = tuple(LoraSite(index, f"layers.{index}", 64, 64) for index in range(len(SITE_LAYERS)))


class Rig:
    """A pool, a loader whose copies can each be held up on the device, and gates."""

    def __init__(self):
        device = torch.device("cuda")
        pool_E = torch.zeros(NUM_PAGES * PAGE_ELEMENTS, dtype=torch.bfloat16, device=device)
        self.pool_PE = pool_E.view(NUM_PAGES, PAGE_ELEMENTS)
        self.table = RankRowTable(pool_E, SITES, 4, 16, PAGE_ELEMENTS)
        self.posted = queue.SimpleQueue()
        stream = make_copy_stream(device)
        self.gates = LoadGates(SITE_LAYERS, stream.make_gate)
        self.copy_delay_cycles = 0
        self.loader = Loader(self.table, stream, self.gates, self.posted.put, self.copy)
        # The first use of kernels and of pinned memory would wait for the delays.
        torch.cuda._sleep(1)
        self.loader.submit(self.packed(0.0), 3, [0, 1, 2])
        self.chase(3, [0, 1, 2])
        self.read(range(3))
        self.ended("0.0")
        self.gates.end(3)
        torch.cuda.synchronize()

    def copy(self, target_E, source_E):
        if self.copy_delay_cycles:
            torch.cuda._sleep(self.copy_delay_cycles)
        target_E.copy_(source_E, non_blocking=True)

    def packed(self, value):
        """Three pages full of `value`, one a layer."""
        pages_PE = torch.full((3, PAGE_ELEMENTS), value, dtype=torch.bfloat16, pin_memory=True)
        rows = [
            SiteRows(site, 8, 1.0, (site * PAGE_ELEMENTS,), (site * PAGE_ELEMENTS + 512,))
            for site in range(3)
        ]
        row = MovableRow(self.table.row_shape, rows, 3, PAGE_ELEMENTS)
        return PackedAdapter(AdapterKey(f"{value}"), 8, HostPages((0, 1, 2), tuple(pages_PE), 3), row)

    def read(self, pages):
        """What a step does; unlike indexing by a list, it does not wait for what runs."""
        return torch.stack([self.pool_PE[page] for page in pages])

    def chase(self, adapter_index, pages):
        """A step that reads a page a layer, each behind its gate."""
        gates = self.gates.for_step([adapter_index])
        found = []
        for layer, page in zip(LAYERS, pages, strict=True):
            gates.wait(layer)
            found.append(self.pool_PE[page].clone())
        return torch.stack(found)

    def ended(self, key):
        assert self.posted.get(timeout=TIMEOUT_S) == LoadEnded(AdapterKey(key))


@pytest.fixture
def rig():
    rig = Rig()
    yield rig
    rig.loader.close()


def event():
    return torch.cuda.current_stream().record_event()


def wait_for(condition, what):
    deadline_s = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.001)


def test_a_page_is_not_overwritten_under_a_step_that_was_launched_before(rig):
    rig.pool_PE.fill_(1.0)
    torch.cuda._sleep(DELAY_CYCLES)
    read_by_step = rig.read([6, 0, 3])
    step_ended = event()
    assert rig.loader.submit(rig.packed(2.0), 1, [6, 0, 3]) is None
    assert not step_ended.query(), "no race to test: the step ended before the load began"
    rig.ended("2.0")
    assert bool((read_by_step == 1.0).all()), "a step read what a later load wrote"
    assert bool((rig.read([6, 0, 3]) == 2.0).all())
    assert bool((rig.read([1, 2, 4, 5, 7]) == 1.0).all())


def test_a_step_behind_two_in_flight_reads_the_new_bytes_and_they_the_old(rig):
    """Evicted while steps N and N+1 read it; step N+2 uses what was loaded into its pages."""
    rig.pool_PE.fill_(1.0)
    torch.cuda._sleep(DELAY_CYCLES)
    old = [rig.read([0, 1, 2])]
    torch.cuda._sleep(DELAY_CYCLES)
    old.append(rig.read([0, 1, 2]))
    before = event()
    rig.loader.submit(rig.packed(2.0), 1, [0, 1, 2])
    new = rig.chase(1, [0, 1, 2])
    assert not before.query(), "no race to test"
    torch.cuda.synchronize()
    assert all(bool((found == 1.0).all()) for found in old)
    assert bool((new == 2.0).all())


def test_a_step_chases_the_copy_layer_by_layer(rig):
    rig.copy_delay_cycles = DELAY_CYCLES
    rig.loader.submit(rig.packed(3.0), 1, [5, 1, 2])
    gates = rig.gates.for_step([1])
    passed, found = [], []
    for layer, page in zip(LAYERS, [5, 1, 2], strict=True):
        gates.wait(layer)
        found.append(rig.pool_PE[page].clone())
        passed.append(event())
    # Launched without waiting, and each layer runs while the next is still being copied.
    assert not passed[0].query()
    for gate in range(2):
        passed[gate].synchronize()
        assert not passed[gate + 1].query(), f"layer {LAYERS[gate]} waited for the copy of the next"
    passed[2].synchronize()
    assert bool((torch.stack(found) == 3.0).all())
    rig.ended("3.0")


def test_a_step_that_decodes_waits_for_the_whole_load_of_its_own_adapter(rig):
    rig.copy_delay_cycles = DELAY_CYCLES
    rig.loader.submit(rig.packed(4.0), 1, [0, 1, 2])
    rig.gates.wait_for_whole([1])
    assert bool((rig.read([0, 1, 2]) == 4.0).all())


def test_steps_of_others_go_on_while_it_is_copied(rig):
    rig.copy_delay_cycles = DELAY_CYCLES
    rig.loader.submit(rig.packed(5.0), 1, [0, 1, 2])
    for step in range(10):
        rig.gates.wait_for_whole([-1, 2])
        rig.chase(2, [4, 5, 6])
        event().synchronize()
        assert rig.posted.empty(), f"step {step} took as long as the copy"
    rig.ended("5.0")


def test_the_table_says_the_new_rows_to_later_steps_alone(rig):
    torch.cuda._sleep(DELAY_CYCLES)
    before = rig.table.ranks_NW[1].clone()
    rig.loader.submit(rig.packed(6.0), 1, [3, 4, 5])
    after = rig.table.ranks_NW[1].clone()
    assert not torch.cuda.current_stream().query(), "somebody waited for the device"
    assert before.tolist() == [0] * 4
    assert after.tolist() == [8, 8, 8, 0]
    assert rig.table.offsets_NW2J[1, :3, 0, 0].tolist() == [page * PAGE_ELEMENTS for page in (3, 4, 5)]


def test_loads_follow_each_other_into_the_same_pages(rig):
    rig.copy_delay_cycles = DELAY_CYCLES // 20
    steps = []
    for number in range(4):
        value = float(10 + number)
        rig.loader.submit(rig.packed(value), number, [0, 1, 2])
        steps.append((value, rig.chase(number, [0, 1, 2])))
    for value, found in steps:
        assert bool((found == value).all()), "a step read another load's bytes"
    for value, _ in steps:
        rig.ended(f"{value}")


def test_a_captured_step_waits_for_the_load_recorded_before_its_replay(rig):
    found_PE = torch.zeros_like(rig.pool_PE[:3])
    stream = torch.cuda.Stream()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        for page, layer in enumerate(LAYERS):
            rig.gates.wait(layer)
            found_PE[page].copy_(rig.pool_PE[page])
    rig.copy_delay_cycles = DELAY_CYCLES // 4
    for value in (7.0, 8.0, 9.0):
        rig.loader.submit(rig.packed(value), 1, [0, 1, 2])
        graph.replay()
        assert bool((found_PE == value).all())
        rig.ended(f"{value}")


def test_a_gate_that_the_next_load_moves_does_not_hold_a_replay_that_was_launched_before(rig):
    """The next load waits for the replay, so the replay must not wait for the next load."""
    graph = torch.cuda.CUDAGraph()
    found_PE = torch.zeros_like(rig.pool_PE[:3])
    with torch.cuda.graph(graph, stream=torch.cuda.Stream(), capture_error_mode="thread_local"):
        # The replay comes to its gates after the next load was launched.
        torch.cuda._sleep(DELAY_CYCLES)
        for page, layer in enumerate(LAYERS):
            rig.gates.wait(layer)
            found_PE[page].copy_(rig.pool_PE[page])
    rig.loader.submit(rig.packed(7.0), 1, [0, 1, 2])
    rig.ended("7.0")
    graph.replay()
    replayed = event()
    rig.loader.submit(rig.packed(8.0), 2, [0, 1, 2])
    assert not replayed.query(), "no race to test"
    wait_for(replayed.query, "a replay and a load wait for each other")
    assert bool((found_PE == 7.0).all())
    rig.ended("8.0")


def test_close_waits_for_the_copies(rig):
    rig.copy_delay_cycles = DELAY_CYCLES
    rig.loader.submit(rig.packed(1.0), 1, [0, 1, 2])
    rig.loader.close()
    rig.ended("1.0")
