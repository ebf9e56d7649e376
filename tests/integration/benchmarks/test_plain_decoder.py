"""The benchmark's plain decoder against Transformers and PEFT, which share no code with it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.plain_decoder import PlainStream, plain_logits, read_plain_adapter
from services.inference.model.config import read_config
from services.inference.model.weights import load_weights
from tests.tiny_models import VARIANTS, build_adapter

CPU = torch.device("cpu")
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
PLAIN = {"rope_type": "default", "rope_theta": 500000.0}


@pytest.mark.parametrize("rope", [PLAIN, LLAMA3], ids=lambda rope: rope["rope_type"])
def test_logits_are_those_of_transformers_and_peft(tmp_path: Path, rope: dict[str, Any]):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=97,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=False,
        initializer_range=0.15,
        rope_parameters=rope,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "model")
    build_adapter(tmp_path / "model", tmp_path / "adapter", VARIANTS["plain"], seed=1)
    token_ids = torch.randint(0, 97, (60,)).tolist()
    base: Any = LlamaForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    ours = read_config(tmp_path / "model")
    weights = load_weights(tmp_path / "model", ours, torch.float32, CPU)
    streams = [
        PlainStream(token_ids, 0, None),
        PlainStream(token_ids, 50, read_plain_adapter(tmp_path / "adapter", CPU)),
    ]
    found = plain_logits(ours, weights, streams, torch.float32)
    with torch.inference_mode():
        expected = base(torch.tensor([token_ids])).logits[0]
        adapted = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
        expected_adapted = adapted(torch.tensor([token_ids])).logits[0, 50:]
    torch.testing.assert_close(found[0], expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(found[1], expected_adapted, rtol=0, atol=1e-4)
    assert not torch.allclose(expected[50:], expected_adapted, atol=1e-2)
