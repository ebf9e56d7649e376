"""One PEFT adapter of every LoRA variant served, with random weights on a tiny model.

Must not know the product's own arithmetic.
"""

import os
import warnings
from pathlib import Path
from typing import Any

import torch

os.environ["HF_HUB_OFFLINE"] = "1"

from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
LINEAR = [*ATTENTION, "gate_proj", "up_proj", "down_proj"]
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {"r": 8, "lora_alpha": 16, "target_modules": LINEAR},
    "rslora": {"r": 3, "lora_alpha": 4, "use_rslora": True, "target_modules": LINEAR},
    "dora": {"r": 5, "lora_alpha": 10, "use_dora": True, "target_modules": LINEAR},
    "patterns": {
        "r": 8,
        "lora_alpha": 8,
        "target_modules": LINEAR,
        "rank_pattern": {"q_proj": 3, "layers.1.mlp.down_proj": 24, "k_proj": 17},
        "alpha_pattern": {"v_proj": 20, "layers.1.mlp.down_proj": 12, "k_proj": 5},
    },
    "attention_only": {"r": 12, "lora_alpha": 6, "target_modules": ATTENTION},
    "mlp_of_one_layer": {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["gate_proj", "down_proj"],
        "layers_to_transform": [1],
    },
    "embeddings": {"r": 6, "lora_alpha": 6, "target_modules": ["embed_tokens", "lm_head", "up_proj"]},
    "embed_tokens_alone": {"r": 2, "lora_alpha": 4, "target_modules": ["embed_tokens"]},
    "lm_head_alone": {"r": 2, "lora_alpha": 4, "target_modules": ["lm_head"]},
    "dora_embeddings": {
        "r": 4,
        "lora_alpha": 4,
        "use_dora": True,
        "target_modules": ["embed_tokens", "lm_head", "v_proj"],
    },
}


def with_adapters(model: PreTrainedModel) -> PeftModel:
    """`model` wrapped, with every variant as an adapter of its name."""
    with warnings.catch_warnings():
        # Targets of tied embeddings: what PEFT does with them is what the test is about.
        warnings.simplefilter("ignore")
        peft_model: PeftModel | None = None
        for name, settings in VARIANTS.items():
            config = LoraConfig(task_type="CAUSAL_LM", **settings)
            if peft_model is None:
                peft_model = get_peft_model(model, config, adapter_name=name)
            else:
                peft_model.add_adapter(name, config)
    assert peft_model is not None
    _randomise(peft_model)
    return peft_model.eval()


def _randomise(peft_model: PeftModel) -> None:
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in peft_model.named_parameters():
            if "lora_magnitude_vector" in name:
                parameter.mul_(torch.empty_like(parameter).uniform_(0.7, 1.3))
            elif "lora_" in name:
                parameter.normal_(std=0.15)


def save_adapters(peft_model: PeftModel, directory: Path) -> None:
    """Each variant's two files in `directory`/its name."""
    with warnings.catch_warnings():
        # PEFT warns that it saves a targeted embedding's base weight along.
        warnings.simplefilter("ignore")
        peft_model.save_pretrained(directory, selected_adapters=list(VARIANTS))


def reference_logits(peft_model: PeftModel, adapter: str | None, token_ids: list[int]) -> torch.Tensor:
    """Logits of every position, one sequence at a time; `adapter` None is the base model."""
    with torch.no_grad():
        if adapter is None:
            with peft_model.disable_adapter():
                return peft_model(torch.tensor([token_ids])).logits[0]
        peft_model.set_adapter(adapter)
        return peft_model(torch.tensor([token_ids])).logits[0]
