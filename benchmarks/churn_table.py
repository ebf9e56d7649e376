"""What newcomers cost those who run: steps of running streams while requests for other adapters arrive.

A newcomer's adapter is in the pool (resident), in host memory (host), or on the local disk only (cold);
"none" is the same run without newcomers. Must not know how adapters move.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from benchmarks.budget import Budget
from benchmarks.local_engine import Step, Stream
from benchmarks.workbench import Workbench
from services.inference.messages import ResidencyState
from services.inference.request import ResolvedAdapter, SamplingParams

KINDS = ("none", "resident", "host", "cold")
TIERS = {"resident": ResidencyState.DEVICE, "host": ResidencyState.HOST}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChurnRow:
    """Steps of the running streams, and times to first token of newcomers; idle: nobody else runs."""

    newcomers: str
    num_newcomers: int
    num_steps: int
    step_p50_ms: float
    step_p99_ms: float
    step_max_ms: float
    p99_over_resident: float | None = None
    ttft_p50_ms: float | None = None
    ttft_max_ms: float | None = None
    idle_ttft_p50_ms: float | None = None
    idle_ttft_max_ms: float | None = None


def run_churn_table(bench: Workbench, budget: Budget, on_rows: Callable[[list[ChurnRow]], None]) -> str:
    """Calls `on_rows` with all rows so far, after every kind; returns what was skipped for time, or ""."""
    sizes = bench.shape.churn
    residents = bench.adapters[: sizes.num_resident]
    newcomers = bench.adapters[sizes.num_resident : sizes.num_resident + sizes.num_newcomers]
    bench.engine.load(residents, ResidencyState.DEVICE)
    _bring(bench, newcomers, "resident")
    # Once for nothing: what is compiled or allocated at first use is no newcomer's fault.
    _run(bench, residents, newcomers[:2])
    rows: list[ChurnRow] = []
    longest_s = 0.0
    for kind in KINDS:
        if not budget.allows(longest_s):
            return f"churn: {kind} and what follows"
        before_s = budget.left_s
        rows.append(_row(bench, kind, residents, newcomers, rows))
        longest_s = max(longest_s, before_s - budget.left_s)
        on_rows(rows)
        budget.say(f"churn: {_line(rows[-1])}")
    return ""


def _row(
    bench: Workbench,
    kind: str,
    residents: Sequence[ResolvedAdapter],
    newcomers: Sequence[ResolvedAdapter],
    rows: Sequence[ChurnRow],
) -> ChurnRow:
    idle_ms: list[float] = []
    arriving: Sequence[ResolvedAdapter] = ()
    if kind != "none":
        arriving = newcomers
        _bring(bench, newcomers, kind)
        idle_ms = [_idle_ttft_ms(bench, a) for a in newcomers[: bench.shape.churn.num_idle_repeats]]
        _bring(bench, newcomers, kind)
    steps, came = _run(bench, residents, arriving)
    gaps_ms = [(step.end_s - before.end_s) * 1e3 for before, step in pairwise(steps)]
    ttft_ms = [stream.ttft_s * 1e3 for stream in came]
    p99_ms = percentile(gaps_ms, 99)
    resident_p99_ms = next((row.step_p99_ms for row in rows if row.newcomers == "resident"), None)
    return ChurnRow(
        newcomers=kind,
        num_newcomers=len(came),
        num_steps=len(gaps_ms),
        step_p50_ms=percentile(gaps_ms, 50),
        step_p99_ms=p99_ms,
        step_max_ms=max(gaps_ms),
        p99_over_resident=p99_ms / resident_p99_ms if resident_p99_ms else None,
        ttft_p50_ms=percentile(ttft_ms, 50) if ttft_ms else None,
        ttft_max_ms=max(ttft_ms) if ttft_ms else None,
        idle_ttft_p50_ms=percentile(idle_ms, 50) if idle_ms else None,
        idle_ttft_max_ms=max(idle_ms) if idle_ms else None,
    )


def _line(row: ChurnRow) -> str:
    newcomers = "" if row.ttft_p50_ms is None else f", newcomers' TTFT {row.ttft_p50_ms:.1f} ms"
    steps_ms = f"{row.step_p50_ms:.2f}, {row.step_p99_ms:.2f}, {row.step_max_ms:.2f}"
    return f"{row.newcomers}: steps p50, p99, max {steps_ms} ms{newcomers}"


def _bring(bench: Workbench, adapters: Sequence[ResolvedAdapter], kind: str) -> None:
    """Every one of `adapters` where `kind` wants it, and nowhere nearer."""
    bench.engine.load(adapters, ResidencyState.HOST)
    bench.engine.unload(adapters, ResidencyState.HOST)
    if kind in TIERS:
        reached = bench.engine.load(adapters, TIERS[kind])
        wrong = [info.version_name for info in reached if info.residency is not TIERS[kind]]
        assert not wrong, f"not {kind}: {wrong}"


def _idle_ttft_ms(bench: Workbench, adapter: ResolvedAdapter) -> float:
    (stream,) = bench.engine.generate([(adapter, bench.prompt(0))], _greedy(1))
    return stream.ttft_s * 1e3


def _run(
    bench: Workbench, residents: Sequence[ResolvedAdapter], newcomers: Sequence[ResolvedAdapter]
) -> tuple[list[Step], list[Stream]]:
    """Steps in which running streams got tokens while `newcomers` came, and the newcomers."""
    sizes, engine = bench.shape.churn, bench.engine
    num_steps = sizes.steps_apart * (sizes.num_newcomers + 1)
    running = [
        engine.submit((residents[index % len(residents)], bench.prompt(index)), _greedy(num_steps))
        for index in range(sizes.num_running)
    ]
    while not all(stream.token_ids for stream in running):
        engine.step()
    steps: list[Step] = []
    came: list[Stream] = []
    while not running[0].is_finished:
        if len(came) < len(newcomers) and len(steps) >= sizes.steps_apart * (len(came) + 1):
            newcomer = (newcomers[len(came)], bench.prompt(1000 + len(came)))
            came.append(engine.submit(newcomer, _greedy(sizes.newcomer_tokens)))
        num_tokens = len(running[0].token_ids)
        step = engine.step()
        if len(running[0].token_ids) > num_tokens:
            steps.append(step)
    engine.finish([*running, *came])
    engine.engine.check_idle()
    return steps, came


def _greedy(num_tokens: int) -> SamplingParams:
    return SamplingParams(max_tokens=num_tokens, temperature=0.0, ignore_eos=True)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` % of `values` do not exceed."""
    rank = max(1, -(-len(values) * percent // 100))
    return sorted(values)[int(rank) - 1]
