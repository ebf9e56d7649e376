"""Makes LoRA adapters with random weights for a base model and pushes them: load for "many" rows.

They say nothing sensible; their bytes and ranks cost what a trained adapter's do.
"""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from client.adapter_directory import CONFIG, WEIGHTS
from client.errors import MultiloraError
from client.registry import BaseModel
from client.store_client import StoreClient

RANKS = (4, 8, 12, 16, 24, 32)

# Keeps the adapted model's activations in the range of the base model's.
_WEIGHT_SCALE = 0.01


async def push_random_adapters(
    store: StoreClient,
    base_model: BaseModel,
    count: int,
    *,
    tenant: str = "bench",
    on_push: Callable[[str], None] = lambda name: None,
) -> list[str]:
    """`count` adapters `{tenant}/random-{i}` for `base_model`; those already there are used as they are."""
    names = [f"{tenant}/random-{index:04d}" for index in range(count)]
    for index, name in enumerate(names):
        if not await _is_pushed(store, name):
            rank = min(RANKS[index % len(RANKS)], base_model.max_rank)
            with tempfile.TemporaryDirectory() as directory:
                write_random_adapter(Path(directory), base_model, rank=rank, seed=index)
                await store.push(directory, name, base_model=base_model.base_model)
        on_push(name)
    return names


async def _is_pushed(store: StoreClient, name: str) -> bool:
    try:
        await store.resolve_version(name)
    except MultiloraError as error:
        if error.code != "NOT_FOUND":
            raise
        return False
    return True


def write_random_adapter(directory: Path, base_model: BaseModel, *, rank: int, seed: int) -> None:
    """A PEFT directory of `rank` on every linear module of every layer, float32."""
    random = np.random.default_rng(seed)
    modules = [module for module in base_model.modules if "." in module.name]
    tensors: dict[str, NDArray[np.float32]] = {}
    for layer in range(base_model.num_layers):
        for module in modules:
            prefix = f"base_model.model.model.layers.{layer}.{module.name}"
            tensors[f"{prefix}.lora_A.weight"] = _weights(random, rank, module.in_features)
            tensors[f"{prefix}.lora_B.weight"] = _weights(random, module.out_features, rank)
    save_file(tensors, str(directory / WEIGHTS))
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model.base_model,
        "r": rank,
        "lora_alpha": rank,
        "target_modules": sorted({module.name.rpartition(".")[2] for module in modules}),
        "bias": "none",
    }
    (directory / CONFIG).write_text(json.dumps(config, indent=2))


def _weights(random: np.random.Generator, rows: int, columns: int) -> NDArray[np.float32]:
    return random.standard_normal((rows, columns), dtype=np.float32) * np.float32(_WEIGHT_SCALE)
