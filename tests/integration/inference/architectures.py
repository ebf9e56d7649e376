"""Tiny random models of every architecture served, made and saved by Transformers.

Must not know the product's own decoder.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

os.environ["HF_HUB_OFFLINE"] = "1"

from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from transformers.utils import logging

VOCAB_SIZE = 203
SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    # Wide enough that a wrong angle, mask or scale moves logits by far more than rounding does.
    "initializer_range": 0.2,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 24,
}


@dataclass(frozen=True, slots=True)
class TinyModel:
    """One architecture; `shard_size` cuts its safetensors into several files."""

    name: str
    model_class: type[PreTrainedModel]
    config_class: type[Any]
    settings: dict[str, Any] = field(default_factory=dict)
    shard_size: str = "1GB"

    def build(self, directory: Path) -> PreTrainedModel:
        """The model with random weights, biases and norms, saved to `directory`."""
        logging.disable_progress_bar()
        torch.manual_seed(len(self.name))
        model = self.model_class(self.config_class(**{**SHAPE, **self.settings})).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("bias"):
                    parameter.normal_(std=0.3)
                elif "norm" in name:
                    parameter.uniform_(0.5, 1.5)
        model.save_pretrained(directory, max_shard_size=self.shard_size)
        return model


ARCHITECTURES = (
    TinyModel("llama2", LlamaForCausalLM, LlamaConfig, {"num_key_value_heads": 6}),
    TinyModel(
        "llama_linear_rope",
        LlamaForCausalLM,
        LlamaConfig,
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.5}},
    ),
    TinyModel(
        "llama3_tied_sharded",
        LlamaForCausalLM,
        LlamaConfig,
        {"tie_word_embeddings": True, "rope_parameters": LLAMA3_ROPE},
        shard_size="40KB",
    ),
    TinyModel("mistral_window", MistralForCausalLM, MistralConfig, {"sliding_window": 11, "head_dim": 16}),
    TinyModel("qwen2_tied", Qwen2ForCausalLM, Qwen2Config, {"tie_word_embeddings": True}),
    TinyModel(
        "qwen2_upper_window",
        Qwen2ForCausalLM,
        Qwen2Config,
        {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1},
    ),
    TinyModel("qwen3_sharded", Qwen3ForCausalLM, Qwen3Config, {"head_dim": 16}, shard_size="40KB"),
)
