"""The loader on a real device: both directions of the race over a page, each with a delay."""

import queue

import pytest
import torch

from kernels.table_row import TableShape
from services.inference.adapters.host_arena import HostPages
from services.inference.adapters.loader import Loader
from services.inference.adapters.packing import PackedAdapter
from services.inference.request import AdapterKey

NUM_PAGES, PAGE_ELEMENTS = 8, 1 << 20
DELAY_CYCLES = 200_000_000


def packed(value):
    pages_PE = torch.full((3, PAGE_ELEMENTS), value, dtype=torch.bfloat16, pin_memory=True)
    return PackedAdapter(AdapterKey(f"{value}"), 8, HostPages((0, 1, 2), tuple(pages_PE)), ())


@pytest.fixture
def rig():
    pool_PE = torch.zeros(NUM_PAGES, PAGE_ELEMENTS, dtype=torch.bfloat16, device="cuda")
    posted = queue.SimpleQueue()
    loader = Loader(pool_PE, TableShape(1, 1), posted.put)
    yield pool_PE, posted, loader
    loader.close()


def read(pool_PE):
    """What a step does; unlike indexing by a list, it does not wait for what runs."""
    return torch.stack([pool_PE[6], pool_PE[0], pool_PE[3]])


def test_a_page_is_not_overwritten_under_a_step_that_was_launched_before(rig):
    pool_PE, posted, loader = rig
    weights = packed(2.0)
    pool_PE.fill_(1.0)
    # The first use of a kernel loads it, which would wait for the delay.
    read(pool_PE)
    torch.cuda.synchronize()
    torch.cuda._sleep(DELAY_CYCLES)
    read_by_step = read(pool_PE)
    step_ended = torch.cuda.current_stream().record_event()
    loader.submit(weights, [6, 0, 3])
    assert not step_ended.query(), "no race to test: the step ended before the load began"
    posted.get(timeout=30)
    assert bool((read_by_step == 1.0).all()), "a step read what a later load wrote"
    assert bool((pool_PE[[6, 0, 3]] == 2.0).all())
    assert bool((pool_PE[[1, 2, 4, 5, 7]] == 1.0).all())


def test_whoever_hears_that_it_is_loaded_reads_the_new_bytes(rig):
    pool_PE, posted, loader = rig
    for value in (3.0, 4.0, 5.0):
        torch.cuda._sleep(DELAY_CYCLES // 10)
        loader.submit(packed(value), [5, 1, 2])
        assert posted.get(timeout=30).key == f"{value}"
        assert bool((pool_PE[[5, 1, 2]] == value).all()), "told before the copy was done"


def test_steps_go_on_while_a_load_waits_for_an_older_one(rig):
    pool_PE, posted, loader = rig
    other = torch.cuda.Stream()
    torch.cuda._sleep(DELAY_CYCLES)
    loader.submit(packed(6.0), [0, 1, 2])
    with torch.cuda.stream(other):
        step = torch.ones(1024, device="cuda").sum()
        other.synchronize()
    assert step.item() == 1024
    assert posted.get(timeout=30).key == "6.0"
    assert bool((pool_PE[:3] == 6.0).all())
