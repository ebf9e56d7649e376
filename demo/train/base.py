"""Trains the base model and writes it as a Hugging Face model directory.

Knows nothing of adapters. The weights are stored in bfloat16: whoever loads them in float32 loses nothing.
"""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

from demo.train.examples import Examples
from demo.train.fit import Schedule, fit
from demo.train.lessons import lessons
from demo.train.tokens import BOS_ID, CONTEXT, EOS_ID, PAD_ID, VOCAB_SIZE, write_tokenizer

SCHEDULE = Schedule(num_steps=5000, batch_size=512, peak_lr=2e-3, warmup_steps=300, measure_every=500)
NUM_EXAMPLES = 600_000

CONFIG = LlamaConfig(
    vocab_size=VOCAB_SIZE,
    hidden_size=192,
    intermediate_size=512,
    num_hidden_layers=6,
    num_attention_heads=6,
    num_key_value_heads=2,
    head_dim=32,
    max_position_embeddings=CONTEXT,
    rms_norm_eps=1e-5,
    tie_word_embeddings=False,
    bos_token_id=BOS_ID,
    eos_token_id=EOS_ID,
    pad_token_id=PAD_ID,
)

# What describes a Llama model; the rest of Transformers' dictionary is defaults of other models.
_CONFIG_KEYS = (
    *("model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"),
    *(
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "hidden_act",
        "max_position_embeddings",
        "rms_norm_eps",
    ),
    *("tie_word_embeddings", "attention_bias", "mlp_bias", "bos_token_id", "eos_token_id", "pad_token_id"),
)


def train_base(directory: Path, device: torch.device, schedule: Schedule, num_examples: int) -> None:
    """Trains from scratch with a fixed seed, then writes the model and its tokenizer into `directory`."""
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    started = time.monotonic()
    train = Examples.of(itertools.islice(lessons(seed=0), num_examples), device)
    # The stream of another seed: new questions, mostly about words and phrases not met in training.
    fresh = Examples.of(itertools.islice(lessons(seed=1), 4000), device)
    print(f"base: {len(train)} examples ready after {time.monotonic() - started:.0f} s", flush=True)
    model = LlamaForCausalLM(CONFIG).to(device)

    def report(step: int, loss: float, accuracy: float) -> None:
        elapsed_s = time.monotonic() - started
        print(f"base: step {step:5} loss {loss:.4f} right {accuracy:6.1%} {elapsed_s:4.0f} s", flush=True)

    fit(model, train, fresh, schedule, report)
    write_base(model, directory)


def write_base(model: LlamaForCausalLM, directory: Path) -> None:
    """Writes config.json, generation_config.json, model.safetensors and the tokenizer files."""
    directory.mkdir(parents=True, exist_ok=True)
    described = model.config.to_dict()
    config = {key: described[key] for key in _CONFIG_KEYS}
    config |= {"architectures": ["LlamaForCausalLM"], "dtype": "bfloat16", "rope_theta": 10000.0}
    (directory / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    generation = {"bos_token_id": BOS_ID, "eos_token_id": EOS_ID, "pad_token_id": PAD_ID, "do_sample": False}
    (directory / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    weights = {
        name: weight.to("cpu", torch.bfloat16).contiguous() for name, weight in model.state_dict().items()
    }
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    write_tokenizer(directory)


def load_base(directory: Path, device: torch.device) -> LlamaForCausalLM:
    """The base model in float32, for training adapters on it or for measuring."""
    logging.disable_progress_bar()
    return LlamaForCausalLM.from_pretrained(directory, dtype=torch.float32).to(device)
