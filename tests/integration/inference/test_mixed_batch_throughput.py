"""Eight adapters in one batch against one: the demo model on a CPU, in one run.

CPU time of this process is counted: other processes cost it caches and memory bandwidth only. Mixed
rounds and rounds of each adapter alone take turns. Rounds of a kind have the same steps, so of each
step the best of equally many tries is kept on both sides; more are made while noise hides the ratio.

The goal is 0.85, which 8 of 13 runs reach: eight adapters bring 10 MB of rank rows a step beside the
model's 12 MB, one brings 1 MB that stays cached. docs/benchmarks/cpu.md has the figures.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks.local_engine import LocalEngine, local_engine, resolved
from services.inference.request import ResolvedAdapter, SamplingParams
from services.inference.settings import Settings

DEMO = Path(__file__).parents[3] / "demo"
NUM_ADAPTERS = 8
PROMPT_TOKENS = 64
NUM_TOKENS = 64
MAX_TRIES = 3
# 13 processes on a busy machine gave 0.84 to 0.88 after three tries, with a deviation of 0.013, and no single
# try less than 0.81. Batched or masked matmuls gave 0.58 to 0.72: the bound lies outside the noise of either.
LEAST_RATIO = 0.80
SAMPLING = SamplingParams(max_tokens=NUM_TOKENS, temperature=0.0, ignore_eos=True)


@pytest.fixture
def engine() -> Iterator[LocalEngine]:
    num_threads = torch.get_num_threads()
    with local_engine(Settings(model=DEMO / "model", threads=1)) as engine:
        yield engine
    torch.set_num_threads(num_threads)


def _step_seconds(engine: LocalEngine, adapters: list[ResolvedAdapter]) -> list[float]:
    """CPU seconds of each step of one request an adapter, all at once."""
    prompts = [(adapter, [40 + row] * PROMPT_TOKENS) for row, adapter in enumerate(adapters)]
    streams = [engine.submit(prompt, SAMPLING) for prompt in prompts]
    taken_s: list[float] = []
    while not all(stream.is_finished for stream in streams):
        start_s = time.process_time()
        engine.step()
        taken_s.append(time.process_time() - start_s)
    return taken_s


def _best(tries: list[list[float]]) -> float:
    assert {len(taken_s) for taken_s in tries} == {NUM_TOKENS}, "prompts go in the first step, together"
    return sum(min(step_s) for step_s in zip(*tries, strict=True))


def test_eight_adapters_mixed_have_most_of_the_throughput_of_one(engine: LocalEngine):
    adapters = [resolved(path) for path in sorted((DEMO / "adapters").iterdir())[:NUM_ADAPTERS]]
    _step_seconds(engine, adapters)
    alone: list[list[list[float]]] = [[] for _ in adapters]
    mixed: list[list[list[float]]] = [[] for _ in adapters]
    ratio = 0.0
    while ratio < LEAST_RATIO and len(mixed[0]) < MAX_TRIES:
        for turn, adapter in enumerate(adapters):
            mixed[turn].append(_step_seconds(engine, adapters))
            alone[turn].append(_step_seconds(engine, [adapter] * NUM_ADAPTERS))
        alone_s, mixed_s = (sum(_best(tries) for tries in side) / NUM_ADAPTERS for side in (alone, mixed))
        ratio = alone_s / mixed_s
    figures = (
        f"CPU ms a step: alone {1e3 * alone_s / NUM_TOKENS:.2f}, mixed {1e3 * mixed_s / NUM_TOKENS:.2f}, "
        f"ratio {ratio:.3f}, tries {len(mixed[0])}"
    )
    print(figures)
    assert ratio >= LEAST_RATIO, figures
