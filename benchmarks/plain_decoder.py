"""The same model in plain torch, written again from its definition: what the engine is compared with.

One layer at a time is widened to the dtype of the computation, so that float32 needs little memory.
Must share no arithmetic with the engine.

Legend: T tokens, H hidden, O out features, I in features, Q query heads, G KV heads, D head dim,
V vocabulary, R rank.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor

from services.inference.adapters.adapter_weights import CONFIG_FILE, WEIGHTS_FILE
from services.inference.model.config import ModelConfig
from services.inference.model.weights import LayerWeights, Weights


@dataclass(frozen=True, slots=True)
class PlainAdapter:
    """A and B of every module by its path, [R, I] and [O, R] as stored: delta = scale * x A^T B^T."""

    scale: float
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class PlainStream:
    """Tokens of one request; logits are wanted at positions `first_wanted` and later."""

    token_ids: Sequence[int]
    first_wanted: int
    adapter: PlainAdapter | None


def read_plain_adapter(directory: Path, device: torch.device) -> PlainAdapter:
    """The PEFT directory's tensors on `device`."""
    config = json.loads((directory / CONFIG_FILE).read_text())
    with safe_open(directory / WEIGHTS_FILE, framework="pt", device=str(device)) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return PlainAdapter(config["lora_alpha"] / config["r"], tensors)


@torch.inference_mode()
def plain_logits(
    config: ModelConfig, weights: Weights, streams: Sequence[PlainStream], dtype: torch.dtype
) -> list[Tensor]:
    """For each stream [wanted positions, V] in `dtype`, all arithmetic in `dtype`."""
    device = weights.embed_VH.device
    hidden = [weights.embed_VH[torch.tensor(s.token_ids, device=device)].to(dtype) for s in streams]
    for index, layer in enumerate(weights.layers):
        wide = _WideLayer(config, index, layer, dtype)
        hidden = [wide.forward(h_TH, stream) for h_TH, stream in zip(hidden, streams, strict=True)]
    lm_head_VH = weights.lm_head_VH.to(dtype)
    norm_H = weights.norm_H.to(dtype)
    return [
        _rms_norm(h_TH[stream.first_wanted :], norm_H, config.norm_eps) @ lm_head_VH.T
        for h_TH, stream in zip(hidden, streams, strict=True)
    ]


class _WideLayer:
    def __init__(self, config: ModelConfig, index: int, layer: LayerWeights, dtype: torch.dtype) -> None:
        self._config = config
        self._prefix = f"base_model.model.model.layers.{index}."
        self._dtype = dtype
        q, kv = config.q_size, config.kv_size
        qkv_OI, gate_up_OI = layer.qkv_OI.to(dtype), layer.gate_up_OI.to(dtype)
        self._matrices = {
            "self_attn.q_proj": qkv_OI[:q],
            "self_attn.k_proj": qkv_OI[q : q + kv],
            "self_attn.v_proj": qkv_OI[q + kv :],
            "self_attn.o_proj": layer.o_OI.to(dtype),
            "mlp.gate_proj": gate_up_OI[: config.intermediate_size],
            "mlp.up_proj": gate_up_OI[config.intermediate_size :],
            "mlp.down_proj": layer.down_OI.to(dtype),
        }
        self._input_norm_H = layer.input_norm_H.to(dtype)
        self._post_norm_H = layer.post_norm_H.to(dtype)

    def forward(self, hidden_TH: Tensor, stream: PlainStream) -> Tensor:
        config, adapter = self._config, stream.adapter
        x_TH = _rms_norm(hidden_TH, self._input_norm_H, config.norm_eps)
        query = self._linear("self_attn.q_proj", x_TH, adapter).view(len(x_TH), -1, config.head_dim)
        key = self._linear("self_attn.k_proj", x_TH, adapter).view(len(x_TH), -1, config.head_dim)
        value = self._linear("self_attn.v_proj", x_TH, adapter).view(len(x_TH), -1, config.head_dim)
        cos_TD, sin_TD = _rope_tables(config, len(x_TH), hidden_TH.device)
        attended = _attend(_rotate(query, cos_TD, sin_TD), _rotate(key, cos_TD, sin_TD), value)
        hidden_TH = hidden_TH + self._linear("self_attn.o_proj", attended.flatten(1), adapter)
        x_TH = _rms_norm(hidden_TH, self._post_norm_H, config.norm_eps)
        gate = F.silu(self._linear("mlp.gate_proj", x_TH, adapter))
        inner = gate * self._linear("mlp.up_proj", x_TH, adapter)
        return hidden_TH + self._linear("mlp.down_proj", inner, adapter)

    def _linear(self, module: str, x_TI: Tensor, adapter: PlainAdapter | None) -> Tensor:
        y_TO = x_TI @ self._matrices[module].T
        if adapter is None:
            return y_TO
        a_RI = adapter.tensors[f"{self._prefix}{module}.lora_A.weight"].to(self._dtype)
        b_OR = adapter.tensors[f"{self._prefix}{module}.lora_B.weight"].to(self._dtype)
        return y_TO + (x_TI @ a_RI.T) @ b_OR.T * adapter.scale


def _rms_norm(x_TH: Tensor, weight_H: Tensor, eps: float) -> Tensor:
    wide = x_TH.to(torch.promote_types(x_TH.dtype, torch.float32))
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(x_TH.dtype) * weight_H


def _attend(query_TQD: Tensor, key_TGD: Tensor, value_TGD: Tensor) -> Tensor:
    """[T, Q, D]: causal softmax attention, Q / G query heads to a KV head."""
    copies = query_TQD.shape[1] // key_TGD.shape[1]
    key_QTD = key_TGD.repeat_interleave(copies, dim=1).transpose(0, 1)
    value_QTD = value_TGD.repeat_interleave(copies, dim=1).transpose(0, 1)
    query_QTD = query_TQD.transpose(0, 1)
    return F.scaled_dot_product_attention(query_QTD, key_QTD, value_QTD, is_causal=True).transpose(0, 1)


def _rotate(heads_TGD: Tensor, cos_TD: Tensor, sin_TD: Tensor) -> Tensor:
    """Pairs (i, i + D/2) turned by their angle."""
    low, high = heads_TGD.chunk(2, dim=-1)
    cos, sin = (table.to(heads_TGD.dtype)[:, None] for table in (cos_TD, sin_TD))
    return torch.cat((low * cos - high * sin, high * cos + low * sin), dim=-1)


def _rope_tables(config: ModelConfig, num_tokens: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """cos and sin [T, D/2] in float64; llama3 scaling by wavelength, as its authors describe it."""
    rope, head_dim = config.rope, config.head_dim
    angles = []
    for pair in range(head_dim // 2):
        frequency = rope.theta ** (-2 * pair / head_dim)
        if rope.kind == "llama3":
            turns = rope.original_context_tokens * frequency / (2 * math.pi)
            if turns < rope.low_freq_factor:
                frequency /= rope.factor
            elif turns <= rope.high_freq_factor:
                share = (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)
                frequency *= share + (1 - share) / rope.factor
        elif rope.kind == "linear":
            frequency /= rope.factor
        angles.append(frequency)
    positions_T = torch.arange(num_tokens, dtype=torch.float64, device=device)
    angles_TD = positions_T[:, None] * torch.tensor(angles, dtype=torch.float64, device=device)
    return angles_TD.cos(), angles_TD.sin()
