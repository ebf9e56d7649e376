"""The committed model and adapters: whole, small, of every kind, and right on words they never saw."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from demo.tasks import TASKS, Task
from demo.train.adapters import RECIPES
from demo.train.evaluate import REQUIRED, complete
from demo.train.lessons import QUESTIONS, lessons
from demo.words import MIN_LETTERS, is_held_out

DEMO = Path(__file__).parents[3] / "demo"
MAX_DEMO_BYTES = 15 * 1024 * 1024
WEIGHT_FILES = [DEMO / "model" / "model.safetensors"] + [
    DEMO / "adapters" / task.adapter / "adapter_model.safetensors" for task in TASKS
]
QUESTION_NAMES = {name for name, _ in QUESTIONS}


def config_of(task: Task) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(
        (DEMO / "adapters" / task.adapter / "adapter_config.json").read_text()
    )
    return config


def test_the_demo_stays_small() -> None:
    assert sum(path.stat().st_size for path in DEMO.rglob("*") if path.is_file()) <= MAX_DEMO_BYTES


@pytest.mark.parametrize("path", WEIGHT_FILES, ids=lambda path: path.parent.name)
def test_weights_are_finite(path: Path) -> None:
    assert all(bool(torch.isfinite(weight).all()) for weight in load_file(path).values())


def test_between_them_the_adapters_are_of_every_kind() -> None:
    configs = [config_of(task) for task in TASKS]
    ranks = {config["r"] for config in configs}
    assert (min(ranks), max(ranks)) == (4, 32)
    assert any(rank & (rank - 1) for rank in ranks), "one is no power of two"
    modules = [set(config["target_modules"]) for config in configs]
    attention, mlp = {"q_proj", "k_proj", "v_proj", "o_proj"}, {"gate_proj", "up_proj", "down_proj"}
    for kind in (attention, mlp, attention | mlp):
        assert kind in modules
    assert {"embed_tokens", "lm_head"} <= set().union(*modules)
    for option in ("use_rslora", "use_dora", "layers_to_transform"):
        assert any(config[option] for config in configs), option
    assert any(config["rank_pattern"] and config["alpha_pattern"] for config in configs)


def test_every_task_has_a_recipe_and_every_recipe_a_task() -> None:
    assert [task.adapter for task in TASKS] == list(RECIPES)


def test_the_written_figures_are_good_enough() -> None:
    figures = json.loads((DEMO / "figures.json").read_text())
    assert list(figures) == [task.name for task in TASKS]
    for name, row in figures.items():
        assert row["words"] >= REQUIRED, name
        assert row["base_alone"] <= 0.01, name


def test_lessons_are_about_no_held_out_word() -> None:
    for prompt, answer in itertools.islice(lessons(seed=0), 3000):
        question, *rest = prompt.split(" ")
        if question.removeprefix("?") in QUESTION_NAMES and rest:
            words = [rest[-1].lower()]
        else:
            assert answer == prompt
            words = [question, *rest]
        words = [word for word in words if word.isascii() and word.islower() and len(word) >= MIN_LETTERS]
        assert not any(map(is_held_out, words)), prompt


# PEFT asks a model for an attribute that Transformers has renamed.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_adapters_answer_and_the_base_alone_echoes() -> None:
    from peft import PeftModel
    from transformers import AutoTokenizer

    from demo.train.base import load_base

    tokenizer = AutoTokenizer.from_pretrained(DEMO / "model")
    base = load_base(DEMO / "model", torch.device("cpu"))
    words = TASKS[0].words[:4]
    assert complete(base, tokenizer, words, max_tokens=12) == {word: word for word in words}
    model = PeftModel.from_pretrained(base, DEMO / "adapters" / TASKS[0].adapter, adapter_name=TASKS[0].name)
    for task in TASKS:
        model.load_adapter(DEMO / "adapters" / task.adapter, adapter_name=task.name)
        model.set_adapter(task.name)
        texts = [*task.words[:3], *task.phrases(1, num_items=2)]
        completions = complete(model, tokenizer, texts, max_tokens=96)
        assert completions == {text: task.answer(text) for text in texts}, task.name
