"""Decoder layers whose LoRA arithmetic is part of the Triton kernels before and after each base matmul.

A layer is twelve launches, four of them base matmuls: norm with A of q|k|v; qkv; B of q|k|v with rope and
KV write; attention; its shares put together with A of o; o; B of o with the residual; norm with A of
gate|up; gate|up; B of gate|up with SiLU and A of down; down; B of down with the residual. Base rows run
through the same kernels.

Legend: T tokens of the step, H hidden, X q|k|v or gate|up side by side. Must not know pages or sampling.
"""

import torch.nn.functional as F
from torch import Tensor

from kernels import tuning
from kernels.combine_shrink import combine_shrink
from kernels.fused_lora import FusedLora
from kernels.lora_launch import LoraLaunch, Shrunk
from kernels.lora_site import LoraSite
from kernels.norm_shrink import norm_shrink, shrink
from kernels.residual_expand import residual_expand_, square_sums
from kernels.rope_expand import rope_expand
from kernels.segments import Segments
from kernels.silu_expand import silu_expand
from services.inference.layer_gates import LayerGates
from services.inference.model.attention import AttentionStep
from services.inference.model.config import ModelConfig
from services.inference.model.sites import SITES_A_LAYER, lora_sites
from services.inference.model.triton_attention import TritonAttentionStep
from services.inference.model.weights import LayerWeights, Weights


class TritonLayers:
    """`FusedLayers` on a CUDA device; attention steps are TritonAttention's."""

    def __init__(self, config: ModelConfig, weights: Weights, lora: FusedLora) -> None:
        self._eps = config.norm_eps
        self._layers = weights.layers
        self._sites = lora_sites(config)
        self._lora = lora

    def forward_(
        self, hidden_TH: Tensor, attention: AttentionStep, segments: Segments, gates: LayerGates
    ) -> None:
        """As FusedLayers.forward_."""
        assert isinstance(attention, TritonAttentionStep)
        launch = self._lora.launch(segments)
        sums_TC = square_sums(launch, hidden_TH)
        for index, weights in enumerate(self._layers):
            if index:
                gates.wait(index)
            sites = self._sites[index * SITES_A_LAYER : (index + 1) * SITES_A_LAYER]
            sums_TC = self._attend_(launch, hidden_TH, sums_TC, attention, index, weights, sites)
            sums_TC = self._feed_forward_(launch, hidden_TH, sums_TC, weights, sites[4:])

    def _attend_(
        self,
        launch: LoraLaunch,
        hidden_TH: Tensor,
        sums_TC: Tensor,
        attention: TritonAttentionStep,
        layer: int,
        weights: LayerWeights,
        sites: tuple[LoraSite, ...],
    ) -> Tensor:
        """Adds the layer's attention to hidden_TH; the new sums of squares."""
        qkv_sites, o_site = sites[:3], sites[3]
        x_TH, shrunk = norm_shrink(launch, hidden_TH, sums_TC, weights.input_norm_H, self._eps, qkv_sites)
        qkv_TX = F.linear(x_TH, weights.qkv_OI, weights.qkv_O)
        turn = attention.head_turn(layer)
        query_TQD = rope_expand(launch, qkv_TX, weights.qkv_O, shrunk, qkv_sites, turn)
        attended_TX, shrunk = _attended(launch, attention, layer, query_TQD, o_site)
        return residual_expand_(launch, hidden_TH, F.linear(attended_TX, weights.o_OI), shrunk, o_site)

    def _feed_forward_(
        self,
        launch: LoraLaunch,
        hidden_TH: Tensor,
        sums_TC: Tensor,
        weights: LayerWeights,
        sites: tuple[LoraSite, ...],
    ) -> Tensor:
        """Adds the layer's MLP, whose sites are gate, up and down, to hidden_TH; the new sums of squares."""
        x_TH, shrunk = norm_shrink(launch, hidden_TH, sums_TC, weights.post_norm_H, self._eps, sites[:2])
        inner_TF = silu_expand(launch, F.linear(x_TH, weights.gate_up_OI), shrunk, sites[:2])
        shrunk = shrink(launch, inner_TF, sites[2])
        return residual_expand_(launch, hidden_TH, F.linear(inner_TF, weights.down_OI), shrunk, sites[2])


def _attended(
    launch: LoraLaunch, attention: TritonAttentionStep, layer: int, query_TQD: Tensor, site: LoraSite
) -> tuple[Tensor, Shrunk]:
    """The attention of turned queries, and A of the o projection's site times it."""
    if len(query_TQD) <= tuning.MAX_COMBINE_SHRINK_ROWS:
        shares = attention.read_shares(layer, query_TQD, uses_pdl=launch.uses_pdl)
        if shares is not None:
            return combine_shrink(launch, shares, query_TQD.dtype, site)
    attended_TX = attention.read(layer, query_TQD)
    return attended_TX, shrink(launch, attended_TX, site)
