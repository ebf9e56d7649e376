import json
from pathlib import Path
from typing import Any

import pytest

from services.common.errors import ServiceError
from services.inference.model.config import read_config

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 300,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
}


def _config(tmp_path: Path, **changes: Any) -> Path:
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA, **changes}))
    return tmp_path


def test_a_llama_config_gives_shapes_and_modules(tmp_path: Path) -> None:
    config = read_config(_config(tmp_path))
    assert (config.head_dim, config.q_size, config.kv_size) == (16, 64, 32)
    modules = {module.name: (module.in_features, module.out_features) for module in config.layer_modules()}
    assert modules["self_attn.k_proj"] == (64, 32)
    assert modules["mlp.down_proj"] == (96, 64)
    assert {module.name for module in config.model_modules()} == {"embed_tokens", "lm_head"}


@pytest.mark.parametrize("key", ["rope_scaling", "rope_parameters"])
def test_llama3_rope_is_read_from_old_and_new_checkpoints(tmp_path: Path, key: str) -> None:
    scaling = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    changes = {key: {**scaling, "rope_theta": 500000.0}} if key == "rope_parameters" else {
        key: scaling, "rope_theta": 500000.0
    }  # fmt: skip
    rope = read_config(_config(tmp_path, **changes)).rope
    assert (rope.theta, rope.kind, rope.factor, rope.original_context_tokens) == (500000.0, "llama3", 8.0, 64)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "architectures"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"attention_bias": True}, "attention_bias"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "rope_scaling"),
        ({"rope_scaling": "linear"}, "rope_scaling"),
        ({"rope_scaling": {"rope_type": "linear"}}, "factor"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"architectures": "LlamaForCausalLM"}, "architectures"),
        ({"hidden_size": "64"}, "hidden_size"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"rms_norm_eps": "1e-5"}, "rms_norm_eps"),
        ({"num_key_value_heads": 3}, "num_key_value_heads"),
    ],
)
def test_what_is_not_served_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ServiceError) as caught:
        read_config(_config(tmp_path, **changes))
    assert caught.value.field == field


def test_a_config_that_is_no_object_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(ServiceError, match="no JSON object"):
        read_config(tmp_path)


def test_a_missing_key_or_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match=r"config\.json"):
        read_config(tmp_path)
    raw = {key: value for key, value in LLAMA.items() if key != "vocab_size"}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    with pytest.raises(ServiceError, match="vocab_size: is missing"):
        read_config(tmp_path)


def test_mistral_slides_its_window_in_every_layer(tmp_path: Path) -> None:
    config = read_config(_config(tmp_path, architectures=["MistralForCausalLM"], sliding_window=16))
    assert [config.window_tokens(layer) for layer in range(2)] == [16, 16]
    full = read_config(_config(tmp_path, architectures=["MistralForCausalLM"], sliding_window=None))
    assert full.sliding_window_tokens is None
    assert read_config(_config(tmp_path, architectures=["MistralForCausalLM"])).sliding_window_tokens == 4096


@pytest.mark.parametrize(
    "changes",
    [{"max_window_layers": 1}, {"layer_types": ["full_attention", "sliding_attention"]}],
)
def test_qwen_slides_its_window_in_the_upper_layers(tmp_path: Path, changes: dict[str, Any]) -> None:
    qwen = {"architectures": ["Qwen2ForCausalLM"], "sliding_window": 16, **changes}
    config = read_config(_config(tmp_path, use_sliding_window=True, **qwen))
    assert [config.window_tokens(layer) for layer in range(2)] == [None, 16]
    config = read_config(_config(tmp_path, use_sliding_window=False, **qwen))
    assert [config.window_tokens(layer) for layer in range(2)] == [None, None]


def test_alternating_windows_are_refused_unless_unused(tmp_path: Path) -> None:
    kinds = ["sliding_attention", "full_attention"]
    qwen = {"architectures": ["Qwen3ForCausalLM"], "layer_types": kinds, "sliding_window": 16}
    with pytest.raises(ServiceError, match="layer_types"):
        read_config(_config(tmp_path, use_sliding_window=True, **qwen))
    assert read_config(_config(tmp_path, use_sliding_window=False, **qwen)).sliding_window_tokens is None
