"""Time a token, prefill time and throughput of the engine: batch sizes x numbers of distinct adapters.

TPOT = (time for n tokens - time for 1) / (n - 1), submission to last token, as for the peers. Passes
take the cells in turn, so that whatever else the machine does falls on all of them alike.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.budget import Budget
from benchmarks.device_busy import DeviceBusy, decode_device_busy
from benchmarks.local_engine import Step
from benchmarks.shape import EngineSizes
from benchmarks.workbench import Workbench
from services.inference.messages import ResidencyState
from services.inference.request import SamplingParams

NUM_WARM_UP_TOKENS = 3
# The rest is for profiles, which say what bounds a step.
PASSES_SHARE = 0.85


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRow:
    """One cell, medians over its passes.

    `floor_ms` is the time to copy out the model's weights (embeddings included, KV not) and each distinct
    adapter's once. A decode step is what passes from one delivery of tokens to the next. `runner_ms` of it is
    in the runner: metadata and launches, of the step after it where the device overlaps, and the wait for its
    tokens; `host_ms` is all the rest, scheduling and events, behind which an overlapping device computes.
    `device_busy_ms` is the sum of its kernels' times, taken in a profiled run of its own; None where none was
    taken.
    """

    batch: int
    adapters: int
    tpot_ms: float
    tpot_spread: float
    decode_tokens_per_s: float
    tokens_per_s: float
    prefill_ms: float
    prefill_tokens: int
    tpot_over_none: float | None
    prefill_over_none: float | None
    floor_ms: float
    tpot_over_floor: float
    step_ms: float
    runner_ms: float
    host_ms: float
    device_busy_ms: float | None
    busiest: tuple[tuple[str, float], ...]
    passes: int


@dataclass(slots=True)
class _Cell:
    batch: int
    num_adapters: int
    first_s: list[float] = field(default_factory=list)
    full_s: list[float] = field(default_factory=list)
    decode_steps: list[Step] = field(default_factory=list)
    busy: DeviceBusy | None = None

    def tpots_s(self, num_tokens: int) -> list[float]:
        pairs = zip(self.full_s, self.first_s, strict=True)
        return [(full_s - first_s) / (num_tokens - 1) for full_s, first_s in pairs]


def cells(sizes: EngineSizes) -> list[tuple[int, int]]:
    """(batch, distinct adapters): none, one, sizes.distinct and batch-many, as far as the batch goes."""
    return [
        (batch, count)
        for batch in sizes.batches
        for count in sorted({0, 1, batch, *sizes.distinct})
        if count <= min(batch, sizes.most_adapters)
    ]


def run_engine_table(
    bench: Workbench, copy_bytes_per_s: float, budget: Budget, on_rows: Callable[[list[EngineRow]], None]
) -> str:
    """Calls `on_rows` with all rows so far, after every cell; returns what was skipped for time, or ""."""
    sizes = bench.shape.engine
    table = [_Cell(batch, count) for batch, count in cells(sizes)]
    bench.engine.load(bench.adapters[: max(cell.num_adapters for cell in table)], ResidencyState.DEVICE)
    budget.say("engine: adapters are in the pool")
    passes_budget = budget.share(PASSES_SHARE)

    def report() -> None:
        on_rows(_rows(bench, table, copy_bytes_per_s))

    skipped = [_time(bench, table, passes_budget, report), _profile(bench, table, budget, report)]
    return "; ".join(text for text in skipped if text)


def _time(bench: Workbench, table: Sequence[_Cell], budget: Budget, report: Callable[[], None]) -> str:
    sizes, longest_s = bench.shape.engine, 0.0
    for number in range(sizes.passes):
        for cell in table:
            if not budget.allows(longest_s):
                return _skipped(table, number, sizes.passes)
            before_s = budget.left_s
            _measure(bench, cell, sizes)
            longest_s = max(longest_s, before_s - budget.left_s)
            report()
            budget.say(f"engine pass {number + 1}: {_line(cell, sizes)}")
    return ""


def _measure(bench: Workbench, cell: _Cell, sizes: EngineSizes) -> None:
    if not cell.full_s:
        _timed(bench, cell, NUM_WARM_UP_TOKENS)
    first_s, _ = _timed(bench, cell, 1)
    full_s, steps = _timed(bench, cell, sizes.num_output_tokens)
    cell.first_s.append(first_s)
    cell.full_s.append(full_s)
    # Between the first and the last delivery to every stream lie decode steps alone.
    cell.decode_steps += [step for step in steps if step.num_tokens == cell.batch][1:-1]


def _timed(bench: Workbench, cell: _Cell, num_tokens: int) -> tuple[float, list[Step]]:
    sampling = SamplingParams(max_tokens=num_tokens, temperature=0.0, ignore_eos=True)
    prompts = bench.prompts(cell.batch, cell.num_adapters)
    streams = [bench.engine.submit(prompt, sampling) for prompt in prompts]
    steps = bench.engine.finish(streams)
    bench.engine.engine.check_idle()
    assert all(len(stream.token_ids) == num_tokens for stream in streams), "a stream ended early"
    return steps[-1].end_s - streams[0].submitted_s, steps


def _profile(bench: Workbench, table: Sequence[_Cell], budget: Budget, report: Callable[[], None]) -> str:
    longest_s = 0.0
    for cell in (cell for cell in table if cell.full_s):
        if not budget.allows(longest_s):
            return "engine: device busy time of some cells"
        before_s = budget.left_s
        cell.busy = decode_device_busy(
            bench.engine, bench.prompts(cell.batch, cell.num_adapters), bench.device
        )
        longest_s = max(longest_s, before_s - budget.left_s)
        report()
    budget.say("engine: device busy times taken")
    return ""


def _rows(bench: Workbench, table: Sequence[_Cell], copy_bytes_per_s: float) -> list[EngineRow]:
    base = {cell.batch: cell for cell in table if cell.num_adapters == 0 and cell.full_s}
    done = sorted((cell for cell in table if cell.full_s), key=lambda cell: (cell.batch, cell.num_adapters))
    return [_row(bench, cell, base.get(cell.batch), copy_bytes_per_s) for cell in done]


def _row(bench: Workbench, cell: _Cell, base: _Cell | None, copy_bytes_per_s: float) -> EngineRow:
    sizes = bench.shape.engine
    tpots_s = cell.tpots_s(sizes.num_output_tokens)
    tpot_s, first_s = statistics.median(tpots_s), statistics.median(cell.first_s)
    floor_s = (bench.weight_bytes + cell.num_adapters * bench.adapter_bytes) / (copy_bytes_per_s)
    step_s = _median([step.wall_s for step in cell.decode_steps])
    runner_s = _median([step.runner_s for step in cell.decode_steps])
    base_tpot_s = statistics.median(base.tpots_s(sizes.num_output_tokens)) if base else None
    base_first_s = statistics.median(base.first_s) if base else None
    return EngineRow(
        batch=cell.batch,
        adapters=cell.num_adapters,
        tpot_ms=tpot_s * 1e3,
        tpot_spread=(max(tpots_s) - min(tpots_s)) / tpot_s,
        decode_tokens_per_s=cell.batch / tpot_s,
        tokens_per_s=cell.batch * sizes.num_output_tokens / statistics.median(cell.full_s),
        prefill_ms=first_s * 1e3,
        prefill_tokens=cell.batch * sizes.num_prompt_tokens,
        tpot_over_none=tpot_s / base_tpot_s if base_tpot_s else None,
        prefill_over_none=first_s / base_first_s if base_first_s else None,
        floor_ms=floor_s * 1e3,
        tpot_over_floor=tpot_s / floor_s,
        step_ms=step_s * 1e3,
        runner_ms=runner_s * 1e3,
        host_ms=(step_s - runner_s) * 1e3,
        device_busy_ms=cell.busy.step_s * 1e3 if cell.busy else None,
        busiest=cell.busy.busiest_ms if cell.busy else (),
        passes=len(cell.full_s),
    )


def _median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else float("nan")


def _line(cell: _Cell, sizes: EngineSizes) -> str:
    tpot_ms = cell.tpots_s(sizes.num_output_tokens)[-1] * 1e3
    return (
        f"batch {cell.batch}, {cell.num_adapters} adapters: TPOT {tpot_ms:.2f} ms, "
        f"{cell.batch / tpot_ms * 1e3:,.0f} tok/s, prefill {cell.first_s[-1] * 1e3:.1f} ms"
    )


def _skipped(table: Sequence[_Cell], number: int, num_passes: int) -> str:
    missing = [f"{cell.batch} x {cell.num_adapters}" for cell in table if not cell.full_s]
    if missing:
        return f"engine: cells (batch x adapters) {', '.join(missing)}"
    return f"engine: passes {number + 1} to {num_passes}, in part"
