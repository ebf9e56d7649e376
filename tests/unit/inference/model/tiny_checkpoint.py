"""A tiny random checkpoint on disk and the decoder over it, without Transformers."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from kernels.lora_site import LoraSite
from kernels.rank_row_table import RankRowTable
from kernels.segments import BASE, Segments
from services.inference.batch import Slice, make_batch
from services.inference.model.config import ModelConfig, read_config
from services.inference.model.decoder import Decoder
from services.inference.model.kv_pages import kv_page_elements
from services.inference.model.sites import lora_sites
from services.inference.model.weights import load_weights

CPU = torch.device("cpu")
PAGE_TOKENS = 4
NUM_PAGES = 40
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 61,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}


def checkpoint_tensors(config: ModelConfig) -> dict[str, Tensor]:
    """Random tensors under the names of a Hugging Face checkpoint."""
    generator = torch.Generator().manual_seed(3)
    hidden = config.hidden_size
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (config.vocab_size, hidden),
        "model.norm.weight": (hidden,),
    }
    if not config.tie_word_embeddings:
        shapes["lm_head.weight"] = (config.vocab_size, hidden)
    for layer in range(config.num_layers):
        prefix = f"model.layers.{layer}"
        for module in config.layer_modules():
            shapes[f"{prefix}.{module.name}.weight"] = (module.out_features, module.in_features)
            if config.qkv_bias and module.name[-6] in "qkv" and "self_attn" in module.name:
                shapes[f"{prefix}.{module.name}.bias"] = (module.out_features,)
        shapes[f"{prefix}.input_layernorm.weight"] = (hidden,)
        shapes[f"{prefix}.post_attention_layernorm.weight"] = (hidden,)
        if config.qk_norm:
            shapes[f"{prefix}.self_attn.q_norm.weight"] = (config.head_dim,)
            shapes[f"{prefix}.self_attn.k_norm.weight"] = (config.head_dim,)
    return {name: torch.randn(shape, generator=generator) * 0.3 for name, shape in shapes.items()}


def write_checkpoint(directory: Path, **changes: Any) -> ModelConfig:
    """config.json with `changes` and one model.safetensors in `directory`."""
    (directory / "config.json").write_text(json.dumps({**CONFIG, **changes}))
    config = read_config(directory)
    save_file(checkpoint_tensors(config), directory / "model.safetensors")
    return config


class RecordingSgmv:
    """An Sgmv that adds nothing and remembers what it was asked."""

    def __init__(self, table: RankRowTable) -> None:
        self.table = table
        self.calls: list[tuple[str, ...]] = []
        self.biases: list[Tensor | None] = []

    def add_(
        self, y_TN: Tensor, x_TK: Tensor, sites: Sequence[LoraSite], segments: Segments, bias_N: Tensor | None
    ) -> None:
        assert y_TN.shape == (x_TK.shape[0], sum(site.out_features for site in sites))
        assert segments.starts[-1] == x_TK.shape[0]
        self.calls.append(tuple(site.name for site in sites))
        self.biases.append(bias_N)

    def add_embedding_(self, y_TN: Tensor, token_ids_T: Tensor, site: LoraSite, segments: Segments) -> None:
        assert y_TN.shape == (token_ids_T.shape[0], site.out_features)
        self.calls.append((site.name,))


class TinyDecoder:
    """The checkpoint's decoder on a pool of NaNs, with an Sgmv that records."""

    def __init__(self, directory: Path, **changes: Any) -> None:
        self.config = write_checkpoint(directory, **changes)
        self.weights = load_weights(directory, self.config, torch.float32, CPU)
        elements = kv_page_elements(self.config, PAGE_TOKENS)
        self.pool_E = torch.full((NUM_PAGES * elements,), float("nan"))
        self.sgmv = RecordingSgmv(RankRowTable(self.pool_E, lora_sites(self.config), 4, 8, elements))
        self.decoder = Decoder(self.config, self.weights, self.pool_E, PAGE_TOKENS, self.sgmv)

    def page(self, page: int) -> Tensor:
        """A view of one page's elements."""
        return self.pool_E.view(NUM_PAGES, -1)[page]

    def forward(self, *slices: Slice) -> Tensor:
        """Logits of the slices' last rows."""
        return self.decoder.forward(make_batch(slices, PAGE_TOKENS, CPU))


def tokens(seed: int, count: int) -> list[int]:
    """Random token ids of the tiny vocabulary."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, CONFIG["vocab_size"], (count,), generator=generator).tolist()


def part(ids: list[int], start: int, stop: int, pages: Sequence[int], adapter_index: int = BASE) -> Slice:
    """Tokens start..stop-1 of a sequence, of whose last row logits are wanted."""
    return Slice(
        token_ids=ids[start:stop], start=start, pages=pages, adapter_index=adapter_index, wants_logits=True
    )
