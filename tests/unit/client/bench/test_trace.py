import numpy as np
import pytest

from client.bench.load import Load, Loop, Popularity
from client.bench.trace import draw_trace

ADAPTERS = tuple(f"acme/a{index}" for index in range(20))


def open_load(**fields):
    return Load(loop=Loop.open, rate_per_s=50.0, duration_s=20.0, **fields)


def test_power_popularity_draws_s_loras_published_trace():
    """Seed, distributions and order of draws as S-LoRA's authors give them for their traces."""
    num_requests, alpha, rate, cv = 1000, 0.3, 50.0, 2.0
    random = np.random.RandomState(42)
    chosen = (random.power(alpha, num_requests) * len(ADAPTERS)).astype(int)
    prompts = random.randint(8, 512, num_requests)
    outputs = random.randint(8, 512, num_requests)
    arrivals = np.cumsum(random.gamma(1 / (cv * cv), cv * cv / rate, num_requests))

    trace = draw_trace(
        open_load(
            popularity=Popularity.power, skew=alpha, cv=cv, prompt_tokens=(8, 512), output_tokens=(8, 512)
        ),
        ADAPTERS,
    )
    assert [planned.adapter for planned in trace] == [ADAPTERS[index] for index in chosen]
    assert [len(planned.prompt_ids) for planned in trace] == prompts.tolist()
    assert [planned.num_output_tokens for planned in trace] == outputs.tolist()
    assert [planned.arrival_s for planned in trace] == arrivals.tolist()


def test_distinct_neighbours_never_share_an_adapter():
    trace = draw_trace(Load(num_requests=60), ADAPTERS)
    for first in range(40):
        assert len({planned.adapter for planned in trace[first : first + 20]}) == 20


@pytest.mark.parametrize("cv", [0.5, 1.0, 2.0])
def test_gaps_have_the_rate_and_the_variation_asked_for(cv):
    load = Load(loop=Loop.open, rate_per_s=50.0, duration_s=400.0, cv=cv)
    gaps = np.diff([0.0, *(planned.arrival_s for planned in draw_trace(load, ADAPTERS))])
    # 20,000 draws: the mean's own deviation is cv / 141 of it, at most 1.4%; five of those.
    assert gaps.mean() == pytest.approx(1 / 50, rel=5 * cv / 141)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.1)


def test_zipf_weights():
    load = Load(loop=Loop.open, rate_per_s=50.0, duration_s=400.0, popularity=Popularity.zipf, skew=1.0)
    counts = np.bincount([ADAPTERS.index(planned.adapter) for planned in draw_trace(load, ADAPTERS)])
    expected = (1 / np.arange(1, 21)) / (1 / np.arange(1, 21)).sum() * 20_000
    # Binomial: five deviations of each count.
    assert np.all(np.abs(counts - expected) < 5 * np.sqrt(expected))


def test_the_seed_decides_everything():
    load = open_load(popularity=Popularity.uniform, prompt_tokens=(4, 9))
    assert draw_trace(load, ADAPTERS) == draw_trace(load, ADAPTERS)
    assert draw_trace(load, ADAPTERS) != draw_trace(
        open_load(popularity=Popularity.uniform, prompt_tokens=(4, 9), seed=1), ADAPTERS
    )
