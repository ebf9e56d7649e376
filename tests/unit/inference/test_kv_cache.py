from services.inference.kv_cache import KvCache
from services.inference.page_pool import PagePool, PageUse


def test_a_sequence_grows_by_pages_and_gives_all_back() -> None:
    pool = PagePool(3)
    kv = KvCache(pool, page_tokens=16)
    assert kv.grow("a", 1)
    first = list(kv.pages("a"))
    assert kv.grow("a", 16)
    assert list(kv.pages("a")) == first
    assert kv.grow("a", 17)
    assert list(kv.pages("a"))[:1] == first
    assert len(kv.pages("a")) == 2
    kv.check_integrity()
    kv.release("a")
    assert pool.num_free == 3
    assert list(kv.pages("a")) == []
    kv.check_integrity()
    assert repr(kv) == "KvCache(sequences=0, pages=0)"


def test_growth_that_does_not_fit_changes_nothing() -> None:
    pool = PagePool(2)
    kv = KvCache(pool, page_tokens=4)
    assert kv.grow("a", 5)
    assert not kv.grow("a", 9)
    assert len(kv.pages("a")) == 2
    assert not kv.grow("b", 1)
    assert list(kv.pages("b")) == []
    assert pool.num_held(PageUse.KV) == 2
    kv.check_integrity()
