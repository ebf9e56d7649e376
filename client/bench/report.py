"""Sums runs up: percentiles, medians over repeats with their spread, ratios to no adapter."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table

from client.bench.measure import Run, StreamTiming

NO_ADAPTER, ONE_ADAPTER, MANY_ADAPTERS = "no adapter", "one adapter", "many adapters"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table: one way to use adapters, all repeats of it together.

    `over_none` and `over_one` are tokens/s over the no-adapter and the one-adapter row's: the median of the
    repeats' own ratios (repeat i over repeat i, measured within seconds of each other). Spreads are
    (max - min) / median.
    """

    name: str
    num_adapters: int
    tokens_per_s: float
    tokens_per_s_spread: float
    requests_per_s: float
    over_none: float
    over_none_spread: float
    over_one: float
    over_one_spread: float
    ttft_p50_ms: float
    ttft_p99_ms: float
    inter_token_p50_ms: float
    inter_token_p99_ms: float
    num_requests: int
    num_errors: int
    first_error: str
    runs_tokens_per_s: tuple[float, ...]


def summarize(runs_by_row: Mapping[str, Sequence[Run]]) -> list[Row]:
    """A Row for each of NO_ADAPTER, ONE_ADAPTER and whatever else there is, all repeated equally often."""
    return [
        _row(name, runs, runs_by_row[NO_ADAPTER], runs_by_row[ONE_ADAPTER])
        for name, runs in runs_by_row.items()
    ]


def _row(name: str, runs: Sequence[Run], none: Sequence[Run], one: Sequence[Run]) -> Row:
    streams = [stream for run in runs for stream in run.streams]
    good = [stream for stream in streams if not stream.error]
    errors = [stream.error for stream in streams if stream.error]
    rates = tuple(run.tokens_per_s for run in runs)
    over_none, over_one = _ratios(runs, none), _ratios(runs, one)
    gaps_s = [gap for stream in good for gap in stream.inter_token_s]
    return Row(
        name=name,
        num_adapters=len({stream.adapter for stream in streams if stream.adapter}),
        tokens_per_s=statistics.median(rates),
        tokens_per_s_spread=_spread(rates),
        requests_per_s=statistics.median(_good_streams(run.streams) / run.wall_s for run in runs),
        over_none=statistics.median(over_none),
        over_none_spread=_spread(over_none),
        over_one=statistics.median(over_one),
        over_one_spread=_spread(over_one),
        ttft_p50_ms=percentile([stream.ttft_s for stream in good], 50) * 1e3,
        ttft_p99_ms=percentile([stream.ttft_s for stream in good], 99) * 1e3,
        inter_token_p50_ms=percentile(gaps_s, 50) * 1e3,
        inter_token_p99_ms=percentile(gaps_s, 99) * 1e3,
        num_requests=len(streams),
        num_errors=len(errors),
        first_error=errors[0] if errors else "",
        runs_tokens_per_s=rates,
    )


def _good_streams(streams: Sequence[StreamTiming]) -> int:
    return sum(not stream.error for stream in streams)


def _ratios(runs: Sequence[Run], others: Sequence[Run]) -> list[float]:
    pairs = zip(runs, others, strict=True)
    return [run.tokens_per_s / other.tokens_per_s if other.tokens_per_s else 0.0 for run, other in pairs]


def _spread(values: Sequence[float]) -> float:
    middle = statistics.median(values)
    return (max(values) - min(values)) / middle if middle else 0.0


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` % of `values` do not exceed; 0.0 if there are none."""
    if not values:
        return 0.0
    rank = max(1, -(-len(values) * percent // 100))
    return sorted(values)[int(rank) - 1]


def table_of(title: str, rows: Sequence[Row]) -> Table:
    """The rows for a terminal."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("row")
    for name in (
        "adapters",
        "tok/s",
        "spread",
        "/ none",
        "spread",
        "/ one",
        "spread",
        "TTFT p50",
        "p99 ms",
        "token p50",
        "p99 ms",
        "errors",
    ):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            row.name,
            str(row.num_adapters),
            f"{row.tokens_per_s:,.0f}",
            f"{row.tokens_per_s_spread:.0%}",
            f"{row.over_none:.2f}",
            f"{row.over_none_spread:.0%}",
            f"{row.over_one:.2f}",
            f"{row.over_one_spread:.0%}",
            f"{row.ttft_p50_ms:.1f}",
            f"{row.ttft_p99_ms:.1f}",
            f"{row.inter_token_p50_ms:.2f}",
            f"{row.inter_token_p99_ms:.2f}",
            f"{row.num_errors}/{row.num_requests}",
        )
    return table
