"""Tiny adapters in PEFT's file format, written by hand, and the base model that they fit. No torch."""

import hashlib
import json
import struct
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from services.adapter_store.domain.base_model import BaseModel, Module
from services.adapter_store.domain.version import VersionFile

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
HIDDEN, VOCAB, NUM_LAYERS, MAX_RANK = 8, 16, 2, 16

MODULES = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (HIDDEN, 4),
    "mlp.up_proj": (HIDDEN, 12),
    "mlp.down_proj": (12, HIDDEN),
    "embed_tokens": (VOCAB, HIDDEN),
    "lm_head": (HIDDEN, VOCAB),
}
BASE_MODEL = BaseModel(
    name="acme/tiny",
    digest="b" * 64,
    architecture="LlamaForCausalLM",
    hidden_size=HIDDEN,
    num_layers=NUM_LAYERS,
    modules=tuple(Module(name, *features) for name, features in MODULES.items()),
    max_rank=MAX_RANK,
)
_DTYPES = {"float32": "F32", "float16": "F16", "float64": "F64", "int32": "I32", "uint16": "BF16"}


def prefix(path: str) -> str:
    """What PEFT puts before a module's path."""
    return f"base_model.model.{path}."


def layer(number: int, module: str) -> str:
    return f"model.layers.{number}.{module}"


def lora(
    path: str, *, rank: int = 4, dora: bool = False, dtype: Any = np.float32, seed: int = 0
) -> dict[str, np.ndarray]:
    """The tensors of one site; bf16 is written from uint16."""
    module = path.split(".", 3)[3] if path.startswith("model.layers.") else path.removeprefix("model.")
    in_features, out_features = MODULES[module]
    random = np.random.default_rng(seed)
    names = (
        ("lora_embedding_A", "lora_embedding_B")
        if module == "embed_tokens"
        else ("lora_A.weight", "lora_B.weight")
    )
    shapes = ((rank, in_features), (out_features, rank))
    found = {
        prefix(path) + name: random.standard_normal(shape).astype(dtype)
        for name, shape in zip(names, shapes, strict=True)
    }
    if dora:
        found[prefix(path) + "lora_magnitude_vector"] = np.ones(out_features, dtype)
    return found


def safetensors(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> bytes:
    """A safetensors file; a uint16 array is written as BF16."""
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": dict(metadata)}
    offset = 0
    for name, array in tensors.items():
        header[name] = {
            "dtype": _DTYPES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    return with_header(json.dumps(header).encode(), b"".join(array.tobytes() for array in tensors.values()))


def with_header(header: bytes, data: bytes = b"") -> bytes:
    """A safetensors file with any bytes for a header."""
    return struct.pack("<Q", len(header)) + header + data


def config(**changes: Any) -> dict[str, Any]:
    """What PEFT 0.21 writes for a plain adapter, with `changes`."""
    plain = {
        "alora_invocation_tokens": None, "alpha_pattern": {}, "arrow_config": None, "auto_mapping": None,
        "base_model_name_or_path": "/models/tiny", "bias": "none", "corda_config": None,
        "ensure_weight_tying": False, "eva_config": None, "exclude_modules": None, "fan_in_fan_out": False,
        "inference_mode": True, "init_lora_weights": True, "kasa_config": None, "layer_replication": None,
        "layers_pattern": None, "layers_to_transform": None, "loftq_config": {}, "lora_alpha": 8,
        "lora_bias": False, "lora_dropout": 0.05, "lora_ga_config": None, "megatron_config": None,
        "megatron_core": "megatron.core", "modules_to_save": None, "monteclora_config": None,
        "peft_type": "LORA", "peft_version": "0.21.2", "qalora_group_size": 16, "r": 4, "rank_pattern": {},
        "revision": None, "target_modules": [name.rpartition(".")[2] for name in MODULES],
        "target_parameters": None, "task_type": "CAUSAL_LM", "trainable_token_indices": None,
        "use_bdlora": None, "use_dora": False, "use_qalora": False, "use_rslora": False,
        "velora_config": None,
    }  # fmt: skip
    return plain | changes


def adapter_files(tensors: Mapping[str, np.ndarray] | None = None, **config_changes: Any) -> dict[str, bytes]:
    """An adapter's files; by default one that is fine."""
    if tensors is None:
        tensors = lora(layer(0, "self_attn.q_proj")) | lora(layer(1, "mlp.down_proj"))
    return {CONFIG: json.dumps(config(**config_changes)).encode(), WEIGHTS: safetensors(tensors)}


def large_adapter_files(num_bytes: int, seed: int) -> dict[str, bytes]:
    """A fine adapter whose files hold a little over `num_bytes` in all."""
    readme = np.random.default_rng(seed).integers(32, 127, num_bytes, np.uint8).tobytes()
    return adapter_files(lora(layer(0, "self_attn.q_proj"), seed=seed)) | {"README.md": readme}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def declared(files: Mapping[str, bytes], paths: Iterable[str] | None = None) -> tuple[VersionFile, ...]:
    """What StartUpload is told of `files`."""
    return tuple(
        VersionFile(path, len(files[path]), sha256(files[path]))
        for path in (files if paths is None else paths)
    )
