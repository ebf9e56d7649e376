"""PEFT directories of random weights for the demo's base model: every one different, none trained."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from demo.stack import MODEL

SCALE = 0.02


def write_adapter(directory: Path, seed: int, rank: int = 16) -> Path:
    """An adapter of every attention and MLP projection, a function of `seed` alone."""
    config = json.loads((MODEL / "config.json").read_text())
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    queries = config["num_attention_heads"] * config["head_dim"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    modules = {
        "self_attn.q_proj": (hidden, queries),
        "self_attn.k_proj": (hidden, keys),
        "self_attn.v_proj": (hidden, keys),
        "self_attn.o_proj": (queries, hidden),
        "mlp.gate_proj": (hidden, inner),
        "mlp.up_proj": (hidden, inner),
        "mlp.down_proj": (inner, hidden),
    }
    random = np.random.default_rng(seed)
    tensors = {}
    for layer in range(config["num_hidden_layers"]):
        for module, (in_features, out_features) in modules.items():
            prefix = f"base_model.model.model.layers.{layer}.{module}"
            for name, shape in (("A", (rank, in_features)), ("B", (out_features, rank))):
                weights = random.standard_normal(shape, dtype=np.float32) * np.float32(SCALE)
                tensors[f"{prefix}.lora_{name}.weight"] = weights
    directory.mkdir(parents=True, exist_ok=True)
    save_file(tensors, directory / "adapter_model.safetensors")
    peft = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": rank,
        "bias": "none",
        "target_modules": [module.partition(".")[2] for module in modules],
    }
    (directory / "adapter_config.json").write_text(json.dumps(peft))
    return directory
