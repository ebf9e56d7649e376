"""Eight adapters in one batch cost little more than one: the demo model on a CPU, in one run.

CPU time of this process is counted, which other processes hardly change. Mixed rounds and rounds of
each adapter alone take turns, and of every turn's repetitions the best is kept on both sides.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from services.inference.request import SamplingParams
from services.inference.settings import Settings
from tests.in_process_engine import InProcessEngine, in_process_engine

DEMO = Path(__file__).parents[3] / "demo"
NUM_ADAPTERS = 8
NUM_TOKENS = 40
REPETITIONS = 3
LEAST_RATIO = 0.85
SAMPLING = SamplingParams(max_tokens=NUM_TOKENS, temperature=0.0, ignore_eos=True)


@pytest.fixture
def engine() -> Iterator[InProcessEngine]:
    num_threads = torch.get_num_threads()
    with in_process_engine(Settings(model=DEMO / "model", threads=1)) as engine:
        yield engine
    torch.set_num_threads(num_threads)


def _cpu_seconds(engine: InProcessEngine, adapters: list[Path]) -> float:
    prompts = [(adapter, [40 + row] * 8) for row, adapter in enumerate(adapters)]
    start_s = time.process_time()
    outputs = engine.generate(prompts, SAMPLING)
    taken_s = time.process_time() - start_s
    assert [len(tokens) for tokens in outputs] == [NUM_TOKENS] * len(adapters)
    return taken_s


def test_eight_adapters_mixed_have_most_of_the_throughput_of_one(engine: InProcessEngine):
    adapters = sorted((DEMO / "adapters").iterdir())[:NUM_ADAPTERS]
    _cpu_seconds(engine, adapters)
    alone_s, mixed_s = [float("inf")] * NUM_ADAPTERS, [float("inf")] * NUM_ADAPTERS
    for _ in range(REPETITIONS):
        for turn, adapter in enumerate(adapters):
            mixed_s[turn] = min(mixed_s[turn], _cpu_seconds(engine, adapters))
            alone_s[turn] = min(alone_s[turn], _cpu_seconds(engine, [adapter] * NUM_ADAPTERS))
    per_step_ms = [1e3 * sum(seconds) / NUM_ADAPTERS / NUM_TOKENS for seconds in (alone_s, mixed_s)]
    ratio = sum(alone_s) / sum(mixed_s)
    print(f"CPU ms a step: alone {per_step_ms[0]:.2f}, mixed {per_step_ms[1]:.2f}, ratio {ratio:.3f}")
    assert ratio >= LEAST_RATIO, f"CPU ms a step: alone {per_step_ms[0]:.2f}, mixed {per_step_ms[1]:.2f}"
