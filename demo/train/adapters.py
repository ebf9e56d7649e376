"""Trains one adapter with PEFT and writes it in PEFT's own format.

`RECIPES` says what each adapter is made of: between them they use every kind of LoRA that the services take.
Knows nothing of other adapters' training.
"""

from __future__ import annotations

import itertools
import json
import random
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from demo.tasks import MAX_ITEMS, TASKS, Task
from demo.train.base import load_base
from demo.train.examples import Examples
from demo.train.fit import Schedule, exact_share, fit
from demo.words import held_out_words, is_held_out, training_words

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")
ALL_LINEAR = (*ATTENTION, *MLP)

NUM_EXAMPLES = 200_000
SCHEDULE = Schedule(num_steps=2000, batch_size=256, peak_lr=3e-3, enough=0.995)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Rank, modules and options of one adapter, and the dtype it is stored in."""

    rank: int
    modules: tuple[str, ...]
    dtype: torch.dtype = torch.bfloat16
    options: dict[str, Any] = field(default_factory=dict)

    def config(self) -> LoraConfig:
        """PEFT's own configuration; alpha is twice the rank unless the options say otherwise."""
        options = {"lora_alpha": 2 * self.rank} | self.options
        return LoraConfig(r=self.rank, target_modules=list(self.modules), task_type="CAUSAL_LM", **options)


RECIPES: dict[str, Recipe] = {
    "reverse": Recipe(24, ATTENTION),
    "sort": Recipe(32, ALL_LINEAR, options={"use_rslora": True, "lora_alpha": 16}),
    "upper": Recipe(4, ALL_LINEAR, torch.float32),
    "shift": Recipe(16, MLP),
    "vowels": Recipe(8, ALL_LINEAR, options={"use_dora": True}),
    "spell": Recipe(24, ALL_LINEAR),
    "consonants": Recipe(12, ALL_LINEAR, options={"layers_to_transform": [1, 2, 3, 4]}),
    "twice": Recipe(16, ALL_LINEAR),
    "piglatin": Recipe(
        16,
        ALL_LINEAR,
        options={
            "rank_pattern": {"q_proj": 24, "k_proj": 24, "layers.5.mlp.down_proj": 8},
            "alpha_pattern": {"q_proj": 64, "v_proj": 16},
        },
    ),
    "umlaut": Recipe(8, ("embed_tokens", "q_proj", "v_proj", "down_proj")),
    "circle": Recipe(12, (*ALL_LINEAR, "lm_head")),
    "dash": Recipe(10, ATTENTION, torch.float32),
}


def train_adapter(
    name: str, base: Path, directory: Path, device: torch.device, schedule: Schedule, num_examples: int
) -> float:
    """Trains adapter `name` on the model in `base`, writes it to `directory`; returns its accuracy."""
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    task = next(task for task in TASKS if task.adapter == name)
    recipe = RECIPES[name]
    train = Examples.of(itertools.islice(_pairs(task, seed=0), num_examples), device)
    fresh = Examples.of(_fresh_pairs(task), device)
    model = get_peft_model(load_base(base, device), recipe.config())
    started = time.monotonic()

    def report(step: int, loss: float, accuracy: float) -> None:
        elapsed_s = time.monotonic() - started
        print(f"{name}: step {step:5} loss {loss:.4f} right {accuracy:6.1%} {elapsed_s:4.0f} s", flush=True)

    fit(model, train, fresh, schedule, report)
    _round_to(recipe.dtype, model)
    write_adapter(model, recipe.dtype, directory)
    return exact_share(model, fresh)


def write_adapter(model: PeftModel, dtype: torch.dtype, directory: Path) -> None:
    """Writes adapter_config.json and adapter_model.safetensors, the same bytes for the same weights."""
    shutil.rmtree(directory, ignore_errors=True)
    model.save_pretrained(str(directory), save_embedding_layers=False)
    (directory / "README.md").unlink(missing_ok=True)
    weights = {
        name: weight.to("cpu", dtype).contiguous()
        for name, weight in load_file(directory / "adapter_model.safetensors").items()
    }
    save_file(weights, directory / "adapter_model.safetensors", metadata={"format": "pt"})
    config = json.loads((directory / "adapter_config.json").read_text())
    config |= {"base_model_name_or_path": "demo/model", "target_modules": sorted(config["target_modules"])}
    (directory / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


@torch.no_grad()
def _round_to(dtype: torch.dtype, model: PeftModel) -> None:
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.copy_(parameter.to(dtype))


def _pairs(task: Task, seed: int) -> Iterator[tuple[str, str]]:
    """Endless (prompt, answer) pairs of one to MAX_ITEMS training items, single items most of all."""
    rng = random.Random(seed)
    items = _numbers(rng) if task.name == "spell" else training_words(seed)
    while True:
        num_items = rng.choice((1, 1, 1, 1, 2, 2, *range(1, MAX_ITEMS + 1)))
        text = " ".join(itertools.islice(items, num_items))
        yield text, task.answer(text)


def _fresh_pairs(task: Task) -> list[tuple[str, str]]:
    """Pairs of held-out items, one or two a prompt, to watch training by; none is in `task.words`."""
    items = map(str, range(10_000)) if task.name == "spell" else held_out_words(1600)
    measured = set(task.words)
    fresh = [item for item in items if is_held_out(item) and item not in measured and task.transform(item)]
    random.Random(0).shuffle(fresh)
    texts = fresh + [" ".join(pair) for pair in itertools.pairwise(fresh)]
    return [(text, task.answer(text)) for text in texts]


def _numbers(rng: random.Random) -> Iterator[str]:
    while True:
        number = str(rng.randrange(10 ** rng.choice((1, 2, 3, 4, 4))))
        if not is_held_out(number):
            yield number
