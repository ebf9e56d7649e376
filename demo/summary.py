"""The demo's closing tables: each stream's times and verdict, and what the engine did."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from client import Stats
from demo.streams import State, Stream

_VERDICTS = {State.right: "green", State.base: "yellow"}


def stream_table(streams: Sequence[Stream]) -> Table:
    """One line a stream."""
    table = Table(title="Streams", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("adapter", "prompt", "text"):
        table.add_column(name, overflow="fold")
    for name in ("TTFT ms", "per token ms", "tokens"):
        table.add_column(name, justify="right")
    table.add_column("answer")
    for stream in streams:
        table.add_row(
            stream.version or stream.label,
            stream.prompt,
            stream.error or stream.text,
            f"{stream.ttft_s * 1e3:.1f}",
            f"{stream.inter_token_s * 1e3:.1f}",
            str(stream.num_tokens),
            _verdict(stream),
        )
    return table


def _verdict(stream: Stream) -> Text:
    if stream.state is State.wrong:
        return Text(f"wrong: should be {stream.expected}", "bold red")
    return Text(stream.state.value, _VERDICTS.get(stream.state, "bold red"))


def engine_table(stats: Stats) -> Table:
    """What the engine did with them."""
    pool, steps = stats.pool, stats.steps
    table = Table(
        title="Engine", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, show_header=False
    )
    table.add_column()
    table.add_column(justify="right")
    table.add_row("steps", str(steps.total))
    table.add_row("steps that mixed 2 or more adapters", str(steps.mixed))
    table.add_row("most adapters in one batch", str(steps.max_adapters_in_batch))
    table.add_row("most requests in one batch", str(steps.max_requests_in_batch))
    table.add_row(f"pool, pages of {pool.page_bytes:,} bytes", str(pool.total_pages))
    table.add_row("most pages of it for KV", str(pool.peak_kv_pages))
    table.add_row("most pages of it for adapters", str(pool.peak_adapter_pages))
    return table


def closing_line(streams: Sequence[Stream]) -> str:
    """The outcome in one sentence."""
    asked = [stream for stream in streams if stream.expected is not None]
    right = sum(stream.state is State.right for stream in asked)
    adapters = len({stream.adapter for stream in asked})
    return f"{right} of {len(asked)} answers right, from {adapters} adapters over one base model."
