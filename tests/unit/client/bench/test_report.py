import io

import pytest
from rich.console import Console

from client.bench.measure import Run, StreamTiming
from client.bench.report import MANY_ADAPTERS, NO_ADAPTER, ONE_ADAPTER, percentile, summarize, table_of


def run(num_tokens, wall_s, *, adapter="", error=""):
    return Run((StreamTiming(adapter, 0.5, (0.01,) * 9 + (0.1,), num_tokens, error),), wall_s)


@pytest.mark.parametrize(("percent", "expected"), [(50, 5), (99, 10), (90, 9), (91, 10), (1, 1)])
def test_percentile_is_a_value_that_was_seen(percent, expected):
    assert percentile([10, 9, 8, 7, 6, 5, 4, 3, 2, 1], percent) == expected


def test_percentile_of_nothing():
    assert percentile([], 99) == 0.0


def test_ratios_pair_repeats():
    # The machine is half as fast in the second repeat: rows halve, ratios stay.
    rows = summarize(
        {
            NO_ADAPTER: [run(100, 1.0), run(50, 1.0)],
            ONE_ADAPTER: [run(80, 1.0), run(40, 1.0)],
            MANY_ADAPTERS: [run(60, 1.0, adapter="a"), run(30, 1.0, adapter="b")],
        }
    )
    none, one, many = rows
    assert [row.name for row in rows] == [NO_ADAPTER, ONE_ADAPTER, MANY_ADAPTERS]
    assert (none.over_none, one.over_none) == (1.0, pytest.approx(0.8))
    assert many.over_none == pytest.approx(0.6)
    assert many.over_one == pytest.approx(0.75)
    assert many.over_none_spread == pytest.approx(0.0)
    assert many.tokens_per_s == 45
    assert many.tokens_per_s_spread == pytest.approx(30 / 45)
    assert many.num_adapters == 2


def test_times_are_of_good_streams_in_milliseconds():
    runs = [run(10, 1.0), run(0, 1.0, error="UNAVAILABLE: gone")]
    row = summarize({NO_ADAPTER: runs, ONE_ADAPTER: runs})[0]
    assert row.ttft_p50_ms == pytest.approx(500)
    assert (row.inter_token_p50_ms, row.inter_token_p99_ms) == (pytest.approx(10), pytest.approx(100))
    assert (row.num_errors, row.num_requests, row.first_error) == (1, 2, "UNAVAILABLE: gone")


def test_the_table_shows_every_row():
    rows = summarize({name: [run(100, 1.0)] for name in (NO_ADAPTER, ONE_ADAPTER, MANY_ADAPTERS)})
    out = io.StringIO()
    Console(file=out, width=200).print(table_of("title", rows))
    for text in ("title", NO_ADAPTER, ONE_ADAPTER, MANY_ADAPTERS, "/ none", "/ one"):
        assert text in out.getvalue()
