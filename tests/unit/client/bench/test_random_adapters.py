import json

from safetensors.numpy import load_file

from client.adapter_directory import CONFIG, WEIGHTS
from client.bench.random_adapters import write_random_adapter
from client.registry import BaseModel, Module

BASE = BaseModel(
    base_model="tiny",
    digest="d",
    architecture="LlamaForCausalLM",
    hidden_size=8,
    num_layers=2,
    modules=(Module("self_attn.q_proj", 8, 6), Module("mlp.down_proj", 12, 8), Module("lm_head", 8, 20)),
    max_rank=16,
)


def test_a_pair_for_every_linear_of_every_layer(tmp_path):
    write_random_adapter(tmp_path, BASE, rank=3, seed=1)
    tensors = load_file(tmp_path / WEIGHTS)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    assert len(shapes) == 2 * 2 * 2
    layer = "base_model.model.model.layers.1"
    assert shapes[f"{layer}.self_attn.q_proj.lora_A.weight"] == (3, 8)
    assert shapes[f"{layer}.self_attn.q_proj.lora_B.weight"] == (6, 3)
    assert shapes[f"{layer}.mlp.down_proj.lora_A.weight"] == (3, 12)
    config = json.loads((tmp_path / CONFIG).read_text())
    assert (config["r"], config["target_modules"]) == (3, ["down_proj", "q_proj"])
    assert all(tensor.any() for tensor in tensors.values())


def test_another_seed_gives_other_bytes(tmp_path):
    contents = []
    for seed in (1, 2, 1):
        write_random_adapter(tmp_path, BASE, rank=3, seed=seed)
        contents.append((tmp_path / WEIGHTS).read_bytes())
    assert contents[0] == contents[2] != contents[1]
