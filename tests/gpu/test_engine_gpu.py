"""The whole engine on a real device: the demo's adapters give right answers, in one crowded batch."""

from pathlib import Path

import pytest

pytest.importorskip("tokenizers")

import tokenizers

from demo.tasks import TASKS
from services.inference.request import SamplingParams
from services.inference.settings import Settings
from tests.in_process_engine import in_process_engine

DEMO = Path(__file__).parents[2] / "demo"
WORDS_A_TASK = 4


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("device", ["cuda"])
def test_the_demo_s_answers_are_right(device: str, dtype: str) -> None:
    tokenizer = tokenizers.Tokenizer.from_file(str(DEMO / "model" / "tokenizer.json"))
    eos = tokenizer.token_to_id("<|eos|>")
    wanted, answers = [], []
    for index in range(WORDS_A_TASK):
        for task in TASKS:
            word = task.words[index]
            wanted.append((DEMO / "adapters" / task.adapter, tokenizer.encode(task.prompt(word)).ids))
            answers.append(task.answer(word))
    # So few pages that adapters are evicted and requests preempted on the way.
    page_bytes = 49_152 if dtype == "float32" else 24_576
    settings = Settings(model=DEMO / "model", device=device, dtype=dtype, pool_bytes=110 * page_bytes)
    with in_process_engine(settings) as engine:
        tokens = engine.generate(wanted, SamplingParams(max_tokens=80, temperature=0.0), (eos,))
        stats = engine.engine.stats()
    texts = [tokenizer.decode(ids) for ids in tokens]
    assert texts == answers
    assert stats.device_evictions > 0
    assert stats.mixed_steps > 0
