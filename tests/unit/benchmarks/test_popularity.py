"""Who is whose in the kernel table."""

import pytest

from benchmarks.popularity import Popularity, runs


@pytest.mark.parametrize("popularity", Popularity)
@pytest.mark.parametrize("batch", [1, 2, 7, 32, 256])
def test_every_request_has_an_adapter_and_no_adapter_is_named_twice(popularity: Popularity, batch: int):
    spread = runs(popularity, batch)
    adapters = [adapter for adapter, _ in spread]
    assert sum(count for _, count in spread) == batch
    assert len(set(adapters)) == len(adapters)
    assert all(0 <= adapter < batch and count > 0 for adapter, count in spread)
    assert runs(popularity, batch) == spread


def test_how_many_adapters_each_has():
    assert len(runs(Popularity.DISTINCT, 64)) == 64
    assert [count for _, count in runs(Popularity.UNIFORM, 64)] == [8] * 8
    assert runs(Popularity.IDENTICAL, 64) == [(0, 64)]
    skewed = dict(runs(Popularity.SKEWED, 256))
    # Zipf 1.5: the first has 1 / zeta(1.5) = 38 % of the requests.
    assert 0.3 * 256 < skewed[0] < 0.47 * 256
    assert 8 < len(skewed) < 64
