"""The whole service through gRPC against the engine alone, one after the other on the same machine.

Both run the same requests with the same settings on the same random weights: all at once, greedy, to
their full length, on adapters that are in the pool. The engine alone runs in this process; the service is
a front end and an engine process, and its clients are processes too. Must not know stubs.
"""

import gc
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.budget import Budget
from benchmarks.churn_table import percentile
from benchmarks.shape import BenchShape, EngineSizes
from benchmarks.workbench import Workbench, workbench
from services.inference.messages import ResidencyState
from services.inference.request import ResolvedAdapter, SamplingParams
from services.inference.settings import Settings

MOST_ADAPTERS = 32
# Seconds that making a model and starting an engine may take.
START_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRow:
    """Medians over passes; times to first token of all passes together, taken where the tokens arrive."""

    through: str
    streams: int
    adapters: int
    tokens_per_s: float
    spread: float
    over_engine: float | None
    ttft_p50_ms: float
    ttft_p99_ms: float
    passes: int


@dataclass(frozen=True, slots=True)
class _Work:
    """What both are given; holds nothing of the engine that ran first."""

    settings: Settings
    sizes: EngineSizes
    vocab_size: int
    adapters: Sequence[ResolvedAdapter]
    prompts: Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True)
class _Pass:
    tokens_per_s: float
    ttft_ms: Sequence[float]


def run_service_table(
    shape: BenchShape,
    device: str,
    directory: Path,
    budget: Budget,
    on_rows: Callable[[list[ServiceRow]], None],
) -> str:
    """Calls `on_rows` after each row; returns what was not measured and why, or ""."""
    if not budget.allows(START_S):
        return "service: all of it, for lack of time"
    work, passes = _engine_alone(shape, device, directory)
    rows = [_row("engine alone", work, passes, None)]
    on_rows(rows)
    budget.say(f"service: {rows[-1]}")
    if not budget.allows(START_S):
        return "service: through gRPC, for lack of time"
    # The pool and the weights that this process had must be free for the other one's.
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
    try:
        passes = _service_passes(work)
    except ImportError as error:
        return f"service: through gRPC: {error.name} is not installed here (multilora[inference] has it)"
    rows.append(_row("gRPC", work, passes, rows[0].tokens_per_s))
    on_rows(rows)
    budget.say(f"service: {rows[-1]}")
    return ""


def _row(through: str, work: _Work, passes: Sequence[_Pass], engine_tokens_per_s: float | None) -> ServiceRow:
    rates = [one.tokens_per_s for one in passes]
    ttft_ms = [value for one in passes for value in one.ttft_ms]
    rate = statistics.median(rates)
    return ServiceRow(
        through=through,
        streams=len(work.prompts),
        adapters=len(work.adapters),
        tokens_per_s=rate,
        spread=(max(rates) - min(rates)) / rate,
        over_engine=rate / engine_tokens_per_s if engine_tokens_per_s else None,
        ttft_p50_ms=percentile(ttft_ms, 50),
        ttft_p99_ms=percentile(ttft_ms, 99),
        passes=len(passes),
    )


def _engine_alone(shape: BenchShape, device: str, directory: Path) -> tuple[_Work, list[_Pass]]:
    num_streams = max(shape.engine.batches)
    ranks = [shape.rank] * min(num_streams, MOST_ADAPTERS)
    with workbench(shape, device, ranks, directory) as bench:
        prompts = [bench.prompt(index) for index in range(num_streams)]
        work = _Work(bench.settings, shape.engine, bench.config.vocab_size, bench.adapters, prompts)
        return work, _engine_passes(bench, work)


def _engine_passes(bench: Workbench, work: _Work) -> list[_Pass]:
    sizes = work.sizes
    sampling = SamplingParams(max_tokens=sizes.num_output_tokens, temperature=0.0, ignore_eos=True)
    prompts = bench.prompts(len(work.prompts), len(work.adapters))
    bench.engine.load(bench.adapters, ResidencyState.DEVICE)
    passes = []
    # The first is for nothing: it compiles and allocates.
    for _ in range(sizes.passes + 1):
        streams = [bench.engine.submit(prompt, sampling) for prompt in prompts]
        steps = bench.engine.finish(streams)
        seconds = steps[-1].end_s - streams[0].submitted_s
        num_tokens = sum(len(stream.token_ids) for stream in streams)
        passes.append(_Pass(num_tokens / seconds, [stream.ttft_s * 1e3 for stream in streams]))
    return passes[1:]


def _service_passes(work: _Work) -> list[_Pass]:
    # Only here: machines that lack what the service needs still run the rest.
    from benchmarks.service.client_load import Call
    from benchmarks.service.directory_store import adapter_name
    from benchmarks.service.running import running_service

    sizes = work.sizes
    calls = [
        Call(adapter_name(index % len(work.adapters)), tuple(prompt), sizes.num_output_tokens)
        for index, prompt in enumerate(work.prompts)
    ]
    passes = []
    with running_service(work.settings, work.vocab_size, work.adapters) as clients:
        # The first is for nothing: it also brings the adapters into the pool.
        for _ in range(sizes.passes + 1):
            answers = clients.run(calls)
            num_tokens = sum(answer.num_tokens for answer in answers)
            assert num_tokens == len(calls) * sizes.num_output_tokens, f"{num_tokens} tokens came"
            seconds = max(a.end_s for a in answers) - min(a.start_s for a in answers)
            passes.append(_Pass(num_tokens / seconds, [(a.first_token_s - a.start_s) * 1e3 for a in answers]))
    return passes[1:]
