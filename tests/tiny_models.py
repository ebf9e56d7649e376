"""Tiny random models and PEFT adapters on disk, and PEFT's own greedy answers to compare with.

Needs torch, transformers and peft; import it inside the tests that do.
"""

import json
import warnings
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

ALL_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "plain": {"r": 16, "target_modules": ALL_LINEAR},
    "attention": {"r": 4, "target_modules": ["q_proj", "v_proj"]},
    "mlp": {"r": 12, "target_modules": ["gate_proj", "up_proj", "down_proj"]},
    "rslora": {"r": 8, "target_modules": ALL_LINEAR, "use_rslora": True},
    "dora": {"r": 8, "target_modules": ALL_LINEAR, "use_dora": True},
    "patterns": {
        "r": 8,
        "target_modules": ALL_LINEAR,
        "rank_pattern": {"q_proj": 3, "layers.1.mlp.down_proj": 24},
        "alpha_pattern": {"q_proj": 2, "o_proj": 40},
    },
    "one-layer": {"r": 32, "target_modules": ["q_proj", "o_proj"], "layers_to_transform": [1]},
    "head": {"r": 8, "target_modules": ["lm_head", "embed_tokens", "v_proj"]},
    "narrow": {"r": 1, "target_modules": ALL_LINEAR},
}


def build_model(model_dir: Path, *, layers: int = 2, seed: int = 0) -> None:
    """Writes a Llama of about 100,000 random weights with a byte-level tokenizer to `model_dir`."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=258,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        # Wide enough that greedy choices are not near ties, which rounding would decide.
        initializer_range=0.15,
        bos_token_id=256,
        eos_token_id=257,
    )
    LlamaForCausalLM(config).save_pretrained(model_dir)
    vocabulary = {piece: index for index, piece in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.save(str(model_dir / "tokenizer.json"))


def build_adapter(model_dir: Path, adapter_dir: Path, variant: Mapping[str, Any], *, seed: int) -> None:
    """Writes a PEFT adapter with random weights, B included, to `adapter_dir`."""
    torch.manual_seed(seed)
    base = LlamaForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    model = get_peft_model(base, LoraConfig(lora_alpha=16, **variant))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_magnitude" in name:
                parameter.mul_(1 + 0.2 * torch.rand_like(parameter))
            elif "lora_" in name:
                parameter.normal_(std=0.1)
    with warnings.catch_warnings():
        # PEFT says that it saves a targeted embedding's base weight along: so do its users.
        warnings.simplefilter("ignore")
        model.save_pretrained(adapter_dir)
    path = adapter_dir / "adapter_config.json"
    config = json.loads(path.read_text())
    config["base_model_name_or_path"] = f"random/{model_dir.name}"
    path.write_text(json.dumps(config))


def greedy_tokens(
    model_dir: Path, adapter_dir: Path | None, prompts: list[list[int]], num_tokens: int
) -> list[list[int]]:
    """What PEFT answers to each of `prompts`, one at a time, without stopping at end-of-sequence."""
    model: Any = LlamaForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    if adapter_dir is not None:
        model = PeftModel.from_pretrained(model, adapter_dir)
    model.eval()
    # Transformers 5.2x renames the argument, and warns of the old name.
    argument = "cache" if "cache" in signature(LlamaForCausalLM.forward).parameters else "past_key_values"
    answers = []
    for prompt in prompts:
        cache, answer, ids = None, [], torch.tensor([prompt])
        with torch.inference_mode():
            for _ in range(num_tokens):
                output = model(input_ids=ids, use_cache=True, **{argument: cache})
                cache = getattr(output, argument, None) or output.past_key_values
                ids = output.logits[:, -1].argmax(-1, keepdim=True)
                answer.append(int(ids))
        answers.append(answer)
    return answers
