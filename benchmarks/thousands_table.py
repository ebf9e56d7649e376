"""S-LoRA's trace over thousands of adapters of many ranks, against the same trace over a few.

Requests arrive when the trace says, whether or not the engine keeps up; the time is that until the last
one has ended. Adapters of the few are among the many. Must not know how adapters move.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.budget import Budget
from benchmarks.churn_table import percentile
from benchmarks.local_engine import Stream
from benchmarks.random_adapters import write_many_adapters
from benchmarks.slora_trace import Arrival, draw_trace
from benchmarks.workbench import Workbench
from services.inference.request import ResolvedAdapter, SamplingParams

COUNTED = ("device_evictions", "host_evictions", "device_hits", "host_hits", "disk_hits", "store_fetches")


@dataclass(frozen=True, slots=True, kw_only=True)
class ThousandsRow:
    """One replay. `files` different weights lie on disk.

    `tokens_per_s` counts output tokens. Times to first token are from when a request was due. `loads` came
    from disk or from the directories that stand for the store; the rest are the engine's own counters.
    """

    adapters: int
    used: int
    files: int
    requests: int
    seconds: float
    tokens_per_s: float
    over_few: float | None
    ttft_p50_ms: float
    ttft_p99_ms: float
    loads: int
    device_evictions: int
    host_evictions: int
    device_hits: int
    host_hits: int
    preemptions: int


def run_thousands_table(
    bench: Workbench, budget: Budget, on_rows: Callable[[list[ThousandsRow]], None]
) -> str:
    """Calls `on_rows` with all rows so far, after every row; returns what was skipped for time, or ""."""
    sizes = bench.shape.thousands
    if not budget.allows(sizes.seconds):
        return "thousands: all of it"
    root = bench.settings.model.parent / "thousands"
    adapters = write_many_adapters(root, bench.config, sizes.ranks, sizes.many, sizes.files)
    num_files = len({file.sha256 for adapter in adapters for file in adapter.files[1:]})
    budget.say(f"thousands: {len(adapters)} adapters over {num_files} files are on disk")
    rows: list[ThousandsRow] = []
    for count in (sizes.few, sizes.many):
        # What one replay took tells what the next will.
        if not budget.allows(max(sizes.seconds, rows[-1].seconds if rows else 0.0)):
            return f"thousands: {count} adapters"
        rows.append(_row(bench, adapters[:count], min(count, num_files), rows))
        on_rows(rows)
        budget.say(f"thousands: {rows[-1]}")
    return ""


def _row(
    bench: Workbench, adapters: Sequence[ResolvedAdapter], num_files: int, rows: Sequence[ThousandsRow]
) -> ThousandsRow:
    trace = draw_trace(bench.shape.thousands, len(adapters))
    before = bench.engine.engine.stats()
    streams, seconds = replay(bench, adapters, trace)
    after = bench.engine.engine.stats()
    bench.engine.engine.check_idle()
    counted = {name: getattr(after, name) - getattr(before, name) for name in COUNTED}
    num_tokens = sum(len(stream.token_ids) for stream in streams)
    assert num_tokens == sum(arrival.num_output_tokens for arrival in trace), "a stream ended early"
    ttft_ms = [stream.ttft_s * 1e3 for stream in streams]
    return ThousandsRow(
        adapters=len(adapters),
        used=len({arrival.adapter for arrival in trace}),
        files=num_files,
        requests=len(trace),
        seconds=seconds,
        tokens_per_s=num_tokens / seconds,
        over_few=num_tokens / seconds / rows[0].tokens_per_s if rows else None,
        ttft_p50_ms=percentile(ttft_ms, 50),
        ttft_p99_ms=percentile(ttft_ms, 99),
        loads=counted.pop("disk_hits") + counted.pop("store_fetches"),
        preemptions=after.preemptions - before.preemptions,
        **counted,
    )


def replay(
    bench: Workbench, adapters: Sequence[ResolvedAdapter], trace: Sequence[Arrival]
) -> tuple[list[Stream], float]:
    """All streams of `trace`, each as if submitted when it was due, and how long it all took."""
    engine, start_s = bench.engine, time.perf_counter()
    streams: list[Stream] = []
    while len(streams) < len(trace) or engine.num_live:
        while len(streams) < len(trace) and start_s + trace[len(streams)].due_s <= time.perf_counter():
            streams.append(_submit(bench, adapters, trace[len(streams)], len(streams), start_s))
        if engine.num_live:
            engine.step()
        elif len(streams) < len(trace):
            time.sleep(max(0.0, start_s + trace[len(streams)].due_s - time.perf_counter()))
    return streams, time.perf_counter() - start_s


def _submit(
    bench: Workbench, adapters: Sequence[ResolvedAdapter], arrival: Arrival, index: int, start_s: float
) -> Stream:
    sampling = SamplingParams(max_tokens=arrival.num_output_tokens, temperature=0.0, ignore_eos=True)
    prompt = bench.prompt(index, arrival.num_prompt_tokens)
    stream = bench.engine.submit((adapters[arrival.adapter], prompt), sampling)
    # An engine that is late to take a request owes that time to its first token.
    stream.submitted_s = start_s + arrival.due_s
    return stream
