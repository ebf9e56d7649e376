"""A model of random weights, made on the device in moments. Must not know what runs on it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from services.inference.model.config import ModelConfig
from services.inference.model.weights import Weights, empty_weights

# With RMS norms of ones this keeps activations and logits near those of trained models.
WEIGHT_STD = 0.02


def write_config(model_dir: Path, config: Mapping[str, Any]) -> None:
    """config.json, which is all that the engine reads of a model whose weights are random."""
    model_dir.mkdir(parents=True, exist_ok=True)
    (model_dir / "config.json").write_text(json.dumps(config))


class RandomModel:
    """Loads random weights, and keeps them for whoever wants to compare."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self.weights: Weights | None = None

    def load(self, model_dir: Path, config: ModelConfig, dtype: torch.dtype, device: torch.device) -> Weights:
        """Normal weights, norms of ones; the same for the same seed and device."""
        generator = torch.Generator(device).manual_seed(self._seed)
        weights = empty_weights(config, dtype, device)
        weights.norm_H.fill_(1)
        matrices = [weights.embed_VH, weights.lm_head_VH]
        for layer in weights.layers:
            layer.input_norm_H.fill_(1)
            layer.post_norm_H.fill_(1)
            matrices += [layer.qkv_OI, layer.o_OI, layer.gate_up_OI, layer.down_OI]
        for matrix in matrices:
            matrix.normal_(0.0, WEIGHT_STD, generator=generator)
        self.weights = weights
        return weights


def num_weight_bytes(weights: Weights) -> int:
    """Bytes of all the model's matrices and norms; tied embeddings count once."""
    tensors = {id(weights.embed_VH): weights.embed_VH, id(weights.lm_head_VH): weights.lm_head_VH}
    total = sum(tensor.nbytes for tensor in tensors.values()) + weights.norm_H.nbytes
    for layer in weights.layers:
        parts = (layer.qkv_OI, layer.o_OI, layer.gate_up_OI, layer.down_OI)
        total += sum(part.nbytes for part in parts) + layer.input_norm_H.nbytes + layer.post_norm_H.nbytes
    return total
