from pathlib import Path

from services.inference.model.sites import lora_sites
from tests.unit.inference.model.tiny_checkpoint import write_checkpoint


def test_sites_go_layer_by_layer_then_embedding_and_head(tmp_path: Path) -> None:
    sites = lora_sites(write_checkpoint(tmp_path))
    assert [site.index for site in sites] == list(range(16))
    assert [site.name for site in sites[7:]] == [
        "layers.1.self_attn.q_proj",
        "layers.1.self_attn.k_proj",
        "layers.1.self_attn.v_proj",
        "layers.1.self_attn.o_proj",
        "layers.1.mlp.gate_proj",
        "layers.1.mlp.up_proj",
        "layers.1.mlp.down_proj",
        "embed_tokens",
        "lm_head",
    ]
    assert [site.is_embedding for site in sites] == [False] * 14 + [True, False]
    assert [(site.in_features, site.out_features) for site in sites[-3:]] == [(40, 32), (61, 32), (32, 61)]
