"""The decoder of a PagedDecoder's model by Triton kernels, over the same pool and table.

On a CPU they run in Triton's interpreter.
"""

from pathlib import Path

import torch

from kernels.fused_lora import make_fused_lora
from kernels.paged_kv import PagedKv
from kernels.sgmv_triton import TritonSgmv
from services.inference.model.decoder import Decoder
from services.inference.model.head_norms import head_norms
from services.inference.model.rope import Rope
from services.inference.model.triton_attention import TritonAttention
from services.inference.model.triton_layers import TritonLayers
from services.inference.model.weights import load_weights
from tests.integration.inference.paged_decoder import PAGE_TOKENS, PagedDecoder


class TritonDecoder:
    """Layers with adapters are fused or not; the decoder's other arithmetic is by torch ops on a CPU."""

    def __init__(self, paged: PagedDecoder, model_dir: Path, *, is_fused: bool) -> None:
        config, device = paged.config, paged.device
        weights = load_weights(model_dir, config, torch.float32, device)
        kv = PagedKv(paged.pool_E, config.num_layers, PAGE_TOKENS, config.num_kv_heads, config.head_dim)
        rope = Rope(config.rope, config.head_dim, torch.float32, device)
        self.sgmv = TritonSgmv(paged.table)
        self.attention = TritonAttention(config, rope, head_norms(weights), kv)
        lora = make_fused_lora(self.sgmv)
        self.decoder = Decoder(
            config,
            weights,
            paged.pool_E,
            PAGE_TOKENS,
            self.sgmv,
            fused=TritonLayers(config, weights, lora) if is_fused else None,
            attention=self.attention,
        )
