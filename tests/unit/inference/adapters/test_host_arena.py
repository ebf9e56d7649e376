import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from services.inference.adapters.host_arena import HostArena

E, PAGE_BYTES = 8, 32


def arena(capacity_pages, slab_pages=4, spare_pages=None):
    return HostArena(
        E,
        torch.float32,
        capacity_pages * PAGE_BYTES,
        slab_bytes=slab_pages * PAGE_BYTES,
        spare_bytes=(spare_pages or slab_pages) * PAGE_BYTES,
    )


def test_memory_is_made_in_slabs_when_it_is_wanted_and_used_again():
    host = arena(32)
    assert host.num_pages == 0
    first = host.take(3)
    assert (host.num_pages, host.num_taken) == (4, 3)
    addresses = {tensor_E.data_ptr() for tensor_E in first.tensors_E}
    host.give_back(first)
    assert {tensor_E.data_ptr() for tensor_E in host.take(3).tensors_E} == addresses
    assert host.num_pages == 4


def test_the_next_slab_is_prepared_before_it_is_wanted():
    host = arena(8, slab_pages=2)
    for expected in (2, 2):
        host.prepare()
        assert host.num_pages == expected
    host.take(2)
    host.prepare()
    assert host.num_pages == 4


def test_half_of_what_is_to_be_spare_is_kept_ready_in_small_slabs():
    host = arena(64, slab_pages=2, spare_pages=12)
    host.prepare()
    assert host.num_pages == 6
    host.take(5)
    host.prepare()
    assert host.num_pages == 12
    host.take(200)
    host.prepare()
    assert host.num_pages == 206, "over capacity and spare already"


def test_the_last_to_be_spare_is_no_more_than_may_stay():
    host = arena(64, slab_pages=2, spare_pages=12)
    held = host.take(72)
    host.prepare()
    assert host.num_pages == 76
    host.give_back(host.take(20))
    assert host.num_pages == 76
    host.give_back(held)
    host.check_integrity()


def test_no_more_is_prepared_than_the_capacity_and_one_slab():
    host = arena(8, slab_pages=2)
    host.take(10)
    host.prepare()
    assert host.num_pages == 10


def test_what_is_wanted_over_capacity_is_made_and_let_go_again():
    host = arena(8, slab_pages=2)
    held = [host.take(2) for _ in range(9)]
    assert host.num_pages == 18
    for pages in held:
        host.give_back(pages)
        host.check_integrity()
    assert (host.num_pages, host.num_taken) == (10, 0)


def test_in_a_full_cache_the_one_more_than_fits_takes_no_new_memory():
    host = arena(8, slab_pages=2)
    held = [host.take(2) for _ in range(5)]
    for _ in range(20):
        host.give_back(held.pop(0))
        held.append(host.take(2))
        assert host.num_pages == 10


@given(st.lists(st.one_of(st.integers(1, 9), st.integers(-9, -1)), max_size=40))
@settings(deadline=None, max_examples=50)
def test_no_page_is_lent_twice_and_each_keeps_what_is_written_to_it(moves):
    host, held = arena(12, slab_pages=3), []
    for number, move in enumerate(moves):
        if move > 0:
            pages = host.take(move)
            for tensor_E in pages.tensors_E:
                tensor_E.fill_(number)
            held.append((number, pages))
        elif held:
            host.give_back(held.pop(-move % len(held))[1])
        host.check_integrity()
    for number, pages in held:
        assert all(bool((tensor_E == number).all()) for tensor_E in pages.tensors_E)
    assert host.num_taken == sum(len(pages.numbers) for _, pages in held)


def test_too_little_memory_is_told():
    host = HostArena(E, torch.float32, 1 << 60, slab_bytes=1 << 58, spare_bytes=1 << 58)
    with pytest.raises(MemoryError, match="host copies"):
        host.take(1)
