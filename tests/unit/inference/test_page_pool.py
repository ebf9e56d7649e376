import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.page_pool import PagePool, PageUse


def test_allocate_takes_all_or_nothing() -> None:
    pool = PagePool(4)
    pages = pool.allocate(3, PageUse.KV)
    assert pages is not None
    assert len(set(pages)) == 3
    assert pool.allocate(2, PageUse.ADAPTER) is None
    assert pool.num_free == 1
    assert repr(pool) == "PagePool(free=1, kv=3, adapter=0, total=4)"
    pool.check_integrity()


def test_a_shared_page_is_free_after_its_last_release() -> None:
    pool = PagePool(2)
    pages = pool.allocate(1, PageUse.KV) or ()
    pool.share(pages)
    pool.release(pages)
    assert pool.num_free == 1
    pool.release(pages)
    assert pool.num_free == 2
    assert pool.num_held(PageUse.KV) == 0
    assert pool.peak(PageUse.KV) == 1
    pool.check_integrity()


def test_releasing_a_free_page_is_a_defect() -> None:
    pool = PagePool(1)
    with pytest.raises(KeyError):
        pool.release([0])


def test_a_pool_without_pages_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one page"):
        PagePool(0)


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(PageUse)), max_size=30), st.randoms())
def test_any_order_of_use_keeps_every_page_in_one_place(wishes, random) -> None:
    pool = PagePool(12)
    held: list[tuple[int, ...]] = []
    for count, use in wishes:
        pages = pool.allocate(count, use)
        if pages is None:
            assert pool.num_free < count
            if held:
                pool.release(held.pop(random.randrange(len(held))))
        else:
            held.append(pages)
        pool.check_integrity()
    for pages in held:
        pool.release(pages)
    assert pool.num_free == 12
