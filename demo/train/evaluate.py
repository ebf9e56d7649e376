"""Measures each adapter, and the base model alone, on words no training saw. Writes demo/figures.json.

    python -m demo.train.evaluate

An answer counts if it is right to the last character and ends with the end-of-sequence token. Decoding is
greedy, by Transformers' own `generate` with PEFT, in float32. Knows nothing of how anything was trained.
"""

from __future__ import annotations

import argparse
import collections
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from rich.console import Console
from rich.table import Table
from safetensors import safe_open
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from demo.tasks import TASKS, Task
from demo.train.base import load_base

DEMO = Path(__file__).resolve().parent.parent
NUM_PHRASES = 200
REQUIRED = 0.95


def evaluate(demo: Path, device: torch.device, tasks: Sequence[Task] = TASKS) -> dict[str, dict[str, Any]]:
    """The figures of every task by its name: shares of right answers, and what the adapter is made of."""
    tokenizer = AutoTokenizer.from_pretrained(demo / "model")
    figures: dict[str, dict[str, Any]] = {}
    for task in tasks:
        directory = demo / "adapters" / task.adapter
        words, phrases = task.words, task.phrases(NUM_PHRASES, num_items=2)
        base_right = right_share(load_base(demo / "model", device), tokenizer, task, words)
        model = PeftModel.from_pretrained(load_base(demo / "model", device), directory).eval()
        figures[task.name] = {
            "words": right_share(model, tokenizer, task, words),
            "phrases_of_two": right_share(model, tokenizer, task, phrases),
            "base_alone": base_right,
            "num_words": len(words),
        } | describe(directory)
        print(f"{task.name}: {figures[task.name]['words']:.1%}", file=sys.stderr, flush=True)
    return figures


def right_share(
    model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, task: Task, texts: Sequence[str]
) -> float:
    """The share of `texts` that `model` completes with exactly the right answer."""
    completions = complete(
        model, tokenizer, [task.prompt(text) for text in texts], max_tokens=_answer_room(task, texts)
    )
    return sum(completions[task.prompt(text)] == task.answer(text) for text in texts) / len(texts)


@torch.no_grad()
def complete(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    max_tokens: int,
) -> dict[str, str | None]:
    """Greedy completions by prompt; None where `max_tokens` passed without an end-of-sequence token."""
    by_length: dict[int, list[str]] = collections.defaultdict(list)
    for prompt in prompts:
        by_length[len(tokenizer(prompt).input_ids)].append(prompt)
    completions: dict[str, str | None] = {}
    # Prompts of one length need no padding, so a batch computes what each prompt would alone.
    for length, alike in sorted(by_length.items()):
        ids_BL = torch.tensor(tokenizer(alike).input_ids, device=model.device)
        generated_BL = model.generate(
            input_ids=ids_BL,
            attention_mask=torch.ones_like(ids_BL),
            max_new_tokens=max_tokens,
            do_sample=False,
        )
        for prompt, ids in zip(alike, generated_BL[:, length:].tolist(), strict=True):
            eos = tokenizer.eos_token_id
            completions[prompt] = tokenizer.decode(ids[: ids.index(eos)]) if eos in ids else None
    return completions


def describe(directory: Path) -> dict[str, Any]:
    """Rank, modules, options and size of the adapter in `directory`."""
    config = json.loads((directory / "adapter_config.json").read_text())
    options = [name.removeprefix("use_") for name in ("use_rslora", "use_dora") if config[name]]
    options += [name for name in ("rank_pattern", "alpha_pattern") if config[name]]
    options += [f"layers {config['layers_to_transform']}"] if config["layers_to_transform"] else []
    weights = directory / "adapter_model.safetensors"
    with safe_open(weights, framework="pt") as tensors:
        dtype = str(tensors.get_tensor(next(iter(tensors.keys()))).dtype).removeprefix("torch.")
    return {
        "rank": config["r"],
        "alpha": config["lora_alpha"],
        "modules": config["target_modules"],
        "options": options,
        "dtype": dtype,
        "size_bytes": weights.stat().st_size,
    }


def print_figures(figures: dict[str, dict[str, Any]]) -> None:
    """The figures as a table on standard output."""
    table = Table("task", "words", "two words", "base alone", "rank", "modules", "options", "dtype", "KiB")
    for name, row in figures.items():
        shares = [f"{row[key]:.1%}" for key in ("words", "phrases_of_two", "base_alone")]
        modules = " ".join(str(module).removesuffix("_proj") for module in row["modules"])
        rest = (
            str(row["rank"]),
            modules,
            ", ".join(row["options"]),
            str(row["dtype"]),
            f"{row['size_bytes'] / 1024:.0f}",
        )
        table.add_row(name, *shares, *rest)
    Console(width=150).print(table)


def main() -> int:
    """Measures, prints and writes; 1 if an adapter is below what is required of it."""
    parser = argparse.ArgumentParser(description="Measure the demo's adapters on held-out words.")
    parser.add_argument("--demo", type=Path, default=DEMO, help="directory with model/ and adapters/")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    figures = evaluate(arguments.demo, torch.device(arguments.device))
    print_figures(figures)
    (arguments.demo / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    return int(any(row["words"] < REQUIRED for row in figures.values()))


def _answer_room(task: Task, texts: Sequence[str]) -> int:
    return max(len(task.answer(text).encode()) for text in texts) + 2


if __name__ == "__main__":
    sys.exit(main())
