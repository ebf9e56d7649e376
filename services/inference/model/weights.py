"""A checkpoint's tensors in the layout the decoder computes with: q|k|v and gate|up side by side.

Legend: V vocabulary, H hidden, O out features of a linear, I in features, D head dim. Must not know
batches, LoRA or the pool.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from services.common.errors import Code, Reason, ServiceError
from services.inference.model.config import ModelConfig

INDEX_FILE = "model.safetensors.index.json"
SINGLE_FILE = "model.safetensors"
LM_HEAD_TENSOR = "lm_head.weight"
# Buffers that old Llama checkpoints carry; the decoder computes them from the config.
IGNORED_SUFFIX = ".rotary_emb.inv_freq"
FLOAT_DTYPES = frozenset({torch.float64, torch.float32, torch.float16, torch.bfloat16})


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One layer. Linears are [O, I]; qkv_O is the bias of Qwen2, q_norm_D and k_norm_D of Qwen3."""

    input_norm_H: Tensor
    qkv_OI: Tensor
    qkv_O: Tensor | None
    q_norm_D: Tensor | None
    k_norm_D: Tensor | None
    o_OI: Tensor
    post_norm_H: Tensor
    gate_up_OI: Tensor
    down_OI: Tensor


@dataclass(frozen=True, slots=True)
class Weights:
    """The whole model; with tied embeddings lm_head_VH is embed_VH itself."""

    embed_VH: Tensor
    layers: tuple[LayerWeights, ...]
    norm_H: Tensor
    lm_head_VH: Tensor


def empty_weights(config: ModelConfig, dtype: torch.dtype, device: torch.device) -> Weights:
    """Uninitialised weights of the right shapes."""

    def empty(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=device)

    def linear(out_features: int, in_features: int) -> Tensor:
        if device.type != "cpu":
            return empty(out_features, in_features)
        # For few rows a CPU reads [I, O] from memory up to twice as fast.
        return empty(in_features, out_features).t()

    hidden, head_dim, qkv_size = config.hidden_size, config.head_dim, config.q_size + 2 * config.kv_size
    layers = tuple(
        LayerWeights(
            input_norm_H=empty(hidden),
            qkv_OI=linear(qkv_size, hidden),
            qkv_O=empty(qkv_size) if config.qkv_bias else None,
            q_norm_D=empty(head_dim) if config.qk_norm else None,
            k_norm_D=empty(head_dim) if config.qk_norm else None,
            o_OI=linear(hidden, config.q_size),
            post_norm_H=empty(hidden),
            gate_up_OI=linear(2 * config.intermediate_size, hidden),
            down_OI=linear(hidden, config.intermediate_size),
        )
        for _ in range(config.num_layers)
    )
    embed_VH = empty(config.vocab_size, hidden)
    lm_head_VH = embed_VH if config.tie_word_embeddings else linear(config.vocab_size, hidden)
    return Weights(embed_VH, layers, empty(hidden), lm_head_VH)


def load_weights(model_dir: Path, config: ModelConfig, dtype: torch.dtype, device: torch.device) -> Weights:
    """Reads `model_dir`'s safetensors, one file or sharded, converting to `dtype` on `device`.

    Holds the model and one tensor of a file at a time. Raises ServiceError FAILED_PRECONDITION naming
    the tensor that is missing, unexpected, twice there, misshapen or not of a float dtype.
    """
    weights = empty_weights(config, dtype, device)
    targets = _targets(config, weights)
    loaded: set[str] = set()
    for name, tensor in _tensors(model_dir):
        if name.endswith(IGNORED_SUFFIX) or (name == LM_HEAD_TENSOR and config.tie_word_embeddings):
            continue
        if name in loaded:
            raise _bad(name, "is in two files; keep one")
        _check(name, tensor, targets)
        targets[name].copy_(tensor)
        loaded.add(name)
    missing = sorted(targets.keys() - loaded)
    if missing:
        raise _bad(missing[0], f"is missing, with {len(missing) - 1} more; is the download complete?")
    return weights


def _targets(config: ModelConfig, weights: Weights) -> dict[str, Tensor]:
    """Where each tensor of the checkpoint goes: views of `weights`."""
    targets = {"model.embed_tokens.weight": weights.embed_VH, "model.norm.weight": weights.norm_H}
    if not config.tie_word_embeddings:
        targets[LM_HEAD_TENSOR] = weights.lm_head_VH
    for index, layer in enumerate(weights.layers):
        for name, view in _layer_targets(config, layer).items():
            targets[f"model.layers.{index}.{name}"] = view
    return targets


def _layer_targets(config: ModelConfig, layer: LayerWeights) -> dict[str, Tensor]:
    qkv_sizes = [config.q_size, config.kv_size, config.kv_size]
    targets = {
        "input_layernorm.weight": layer.input_norm_H,
        "self_attn.o_proj.weight": layer.o_OI,
        "post_attention_layernorm.weight": layer.post_norm_H,
        "mlp.down_proj.weight": layer.down_OI,
    }
    for part, view in zip("qkv", layer.qkv_OI.split_with_sizes(qkv_sizes), strict=True):
        targets[f"self_attn.{part}_proj.weight"] = view
    for part, view in zip(("gate", "up"), layer.gate_up_OI.chunk(2), strict=True):
        targets[f"mlp.{part}_proj.weight"] = view
    if layer.qkv_O is not None:
        for part, view in zip("qkv", layer.qkv_O.split_with_sizes(qkv_sizes), strict=True):
            targets[f"self_attn.{part}_proj.bias"] = view
    if layer.q_norm_D is not None and layer.k_norm_D is not None:
        targets["self_attn.q_norm.weight"] = layer.q_norm_D
        targets["self_attn.k_norm.weight"] = layer.k_norm_D
    return targets


def _check(name: str, tensor: Tensor, targets: dict[str, Tensor]) -> None:
    if name not in targets:
        raise _bad(name, "is not part of the architecture in config.json")
    expected, found = list(targets[name].shape), list(tensor.shape)
    if expected != found:
        raise _bad(name, f"has shape {found}, config.json asks for {expected}")
    if tensor.dtype not in FLOAT_DTYPES:
        raise _bad(name, f"is {tensor.dtype}; give float weights, not quantized ones")


def _tensors(model_dir: Path) -> Iterator[tuple[str, Tensor]]:
    for path in _files(model_dir):
        try:
            with safe_open(path, framework="pt", device="cpu") as file:
                for name in file.keys():  # noqa: SIM118 (a handle is no mapping)
                    yield name, file.get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise _bad(path.name, f"cannot be read in {model_dir}: {error}") from error


def _files(model_dir: Path) -> list[Path]:
    index = model_dir / INDEX_FILE
    if not index.exists():
        return [model_dir / SINGLE_FILE]
    try:
        weight_map = json.loads(index.read_text())["weight_map"]
        return [model_dir / name for name in sorted(set(weight_map.values()))]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise _bad(INDEX_FILE, f"cannot be read in {model_dir}: {error!r}") from error


def _bad(name: str, message: str) -> ServiceError:
    return ServiceError(Code.FAILED_PRECONDITION, Reason.INVALID_FIELD, f"{name}: {message}", field=name)
