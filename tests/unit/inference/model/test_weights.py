import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from services.common.errors import Code, ServiceError
from services.inference.model.config import ModelConfig
from services.inference.model.weights import Weights, load_weights
from tests.unit.inference.model.tiny_checkpoint import CPU, write_checkpoint

UP = "model.layers.1.mlp.up_proj.weight"


def _load(directory: Path, config: ModelConfig, dtype: torch.dtype = torch.float32) -> Weights:
    return load_weights(directory, config, dtype, CPU)


def _rewrite(directory: Path, **changes: torch.Tensor | None) -> None:
    path = directory / "model.safetensors"
    tensors: dict[str, torch.Tensor | None] = {**load_file(path), **changes}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path)


def _refusal(directory: Path, config: ModelConfig) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        _load(directory, config)
    assert caught.value.code is Code.FAILED_PRECONDITION
    return caught.value


@pytest.mark.parametrize("architecture", ["LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"])
def test_every_tensor_lands_in_its_place(tmp_path: Path, architecture: str) -> None:
    config = write_checkpoint(tmp_path, architectures=[architecture])
    weights, raw = _load(tmp_path, config), load_file(tmp_path / "model.safetensors")
    assert torch.equal(weights.embed_VH, raw["model.embed_tokens.weight"])
    assert torch.equal(weights.lm_head_VH, raw["lm_head.weight"])
    assert torch.equal(weights.norm_H, raw["model.norm.weight"])
    for index, layer in enumerate(weights.layers):
        prefix = f"model.layers.{index}"
        qkv = [f"{prefix}.self_attn.{part}_proj" for part in "qkv"]
        assert torch.equal(layer.qkv_OI, torch.cat([raw[f"{name}.weight"] for name in qkv]))
        assert torch.equal(layer.o_OI, raw[f"{prefix}.self_attn.o_proj.weight"])
        gate_up = [raw[f"{prefix}.mlp.{part}_proj.weight"] for part in ("gate", "up")]
        assert torch.equal(layer.gate_up_OI, torch.cat(gate_up))
        assert torch.equal(layer.down_OI, raw[f"{prefix}.mlp.down_proj.weight"])
        assert torch.equal(layer.input_norm_H, raw[f"{prefix}.input_layernorm.weight"])
        assert torch.equal(layer.post_norm_H, raw[f"{prefix}.post_attention_layernorm.weight"])
        assert (layer.qkv_O is not None) == config.qkv_bias
        if layer.qkv_O is not None:
            assert torch.equal(layer.qkv_O, torch.cat([raw[f"{name}.bias"] for name in qkv]))
        assert (layer.q_norm_D is not None) == (layer.k_norm_D is not None) == config.qk_norm
        if layer.k_norm_D is not None:
            assert torch.equal(layer.k_norm_D, raw[f"{prefix}.self_attn.k_norm.weight"])


def test_weights_are_converted(tmp_path: Path) -> None:
    config = write_checkpoint(tmp_path)
    raw = load_file(tmp_path / "model.safetensors")[UP]
    up_OI = _load(tmp_path, config, torch.bfloat16).layers[1].gate_up_OI[config.intermediate_size :]
    assert up_OI.dtype == torch.bfloat16
    assert torch.equal(up_OI, raw.bfloat16())


def test_tied_embeddings_share_one_tensor_whatever_lm_head_the_file_has(tmp_path: Path) -> None:
    config = write_checkpoint(tmp_path, tie_word_embeddings=True)
    weights = _load(tmp_path, config)
    assert weights.lm_head_VH is weights.embed_VH
    _rewrite(tmp_path, **{"lm_head.weight": torch.zeros(config.vocab_size, config.hidden_size)})
    assert torch.equal(_load(tmp_path, config).lm_head_VH, weights.embed_VH)


def test_buffers_of_old_checkpoints_are_ignored(tmp_path: Path) -> None:
    config = write_checkpoint(tmp_path)
    _rewrite(tmp_path, **{"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)})
    _load(tmp_path, config)


def test_a_sharded_checkpoint_is_read_by_its_index(tmp_path: Path) -> None:
    config = write_checkpoint(tmp_path)
    whole = _load(tmp_path, config)
    _shard(tmp_path)
    sharded = _load(tmp_path, config)
    assert torch.equal(sharded.embed_VH, whole.embed_VH)
    assert torch.equal(sharded.layers[1].gate_up_OI, whole.layers[1].gate_up_OI)


def _shard(directory: Path) -> None:
    tensors = load_file(directory / "model.safetensors")
    names = sorted(tensors)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, members in shards.items():
        save_file({name: tensors[name] for name in members}, directory / file)
    weight_map = {name: file for file, members in shards.items() for name in members}
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (directory / "model.safetensors").unlink()


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    config = write_checkpoint(tmp_path)
    _rewrite(tmp_path, **{UP: None})
    error = _refusal(tmp_path, config)
    assert error.field == UP
    assert "missing" in error.message


def test_an_unexpected_tensor_is_named(tmp_path: Path) -> None:
    config = write_checkpoint(tmp_path)
    _rewrite(tmp_path, **{"model.layers.2.mlp.up_proj.weight": torch.ones(2, 2)})
    assert _refusal(tmp_path, config).field == "model.layers.2.mlp.up_proj.weight"


def test_a_misshapen_tensor_is_named_with_both_shapes(tmp_path: Path) -> None:
    config = write_checkpoint(tmp_path)
    _rewrite(tmp_path, **{UP: torch.ones(32, 40)})
    error = _refusal(tmp_path, config)
    assert error.field == UP
    assert "[32, 40]" in error.message
    assert "[40, 32]" in error.message


def test_a_tensor_that_would_broadcast_is_still_misshapen(tmp_path: Path) -> None:
    config = write_checkpoint(tmp_path)
    _rewrite(tmp_path, **{UP: torch.ones(1, 32)})
    assert _refusal(tmp_path, config).field == UP


def test_quantized_weights_are_refused(tmp_path: Path) -> None:
    config = write_checkpoint(tmp_path)
    _rewrite(tmp_path, **{UP: torch.ones(40, 32, dtype=torch.int8)})
    error = _refusal(tmp_path, config)
    assert error.field == UP
    assert "int8" in error.message


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    config = write_checkpoint(tmp_path)
    up = load_file(tmp_path / "model.safetensors")[UP]
    _shard(tmp_path)
    both = {**load_file(tmp_path / "a.safetensors"), **load_file(tmp_path / "b.safetensors"), UP: up}
    save_file(both, tmp_path / "b.safetensors")
    assert "two files" in _refusal(tmp_path, config).message


def test_no_file_a_torn_file_and_a_torn_index_are_named(tmp_path: Path) -> None:
    config = write_checkpoint(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:500])
    assert _refusal(tmp_path, config).field == "model.safetensors"
    path.unlink()
    assert _refusal(tmp_path, config).field == "model.safetensors"
    index = tmp_path / "model.safetensors.index.json"
    for text in ("{", "{}", "[]", '{"weight_map": 3}'):
        index.write_text(text)
        assert _refusal(tmp_path, config).field == index.name
    index.write_text('{"weight_map": {"x": "gone.safetensors"}}')
    assert _refusal(tmp_path, config).field == "gone.safetensors"
