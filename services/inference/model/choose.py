"""Chooses who attends, who does the arithmetic between matmuls and who runs layers with adapters on a device.

Must not know how any of them does it.
"""

import torch
from torch import Tensor

from kernels.paged_kv import PagedKv
from kernels.sgmv import Sgmv
from services.inference.model.attention import Attention
from services.inference.model.config import ModelConfig
from services.inference.model.fused_layers import FusedLayers
from services.inference.model.head_norms import head_norms
from services.inference.model.kv_pages import KvPages
from services.inference.model.pointwise import Pointwise, TorchPointwise
from services.inference.model.rope import Rope
from services.inference.model.torch_attention import TorchAttention
from services.inference.model.torch_heads import TorchHeads
from services.inference.model.weights import Weights


def make_attention(config: ModelConfig, weights: Weights, pool_E: Tensor, page_tokens: int) -> Attention:
    """Triton kernels where the pool is on a CUDA device, torch ops elsewhere."""
    norms = head_norms(weights)
    if pool_E.is_cuda:
        from services.inference.model.triton_attention import TritonAttention

        kv = PagedKv(pool_E, config.num_layers, page_tokens, config.num_kv_heads, config.head_dim)
        rope = Rope(config.rope, config.head_dim, torch.float32, pool_E.device)
        return TritonAttention(config, rope, norms, kv)
    rope = Rope(config.rope, config.head_dim, pool_E.dtype, pool_E.device)
    return TorchHeads(config, rope, norms, TorchAttention(config, KvPages(pool_E, config, page_tokens)))


def make_pointwise(pool_E: Tensor) -> Pointwise:
    """Triton kernels where the pool is on a CUDA device, torch ops elsewhere."""
    if pool_E.is_cuda:
        from services.inference.model.triton_pointwise import TritonPointwise

        return TritonPointwise()
    return TorchPointwise()


def make_fused_layers(config: ModelConfig, weights: Weights, sgmv: Sgmv) -> FusedLayers | None:
    """A CUDA device's; None elsewhere, where `sgmv` adds each delta by itself."""
    if weights.embed_VH.device.type != "cuda":
        return None
    from kernels.fused_lora import make_fused_lora
    from kernels.sgmv_triton import TritonSgmv
    from services.inference.model.triton_layers import TritonLayers

    assert isinstance(sgmv, TritonSgmv)
    return TritonLayers(config, weights, make_fused_lora(sgmv))
