"""One decoder layer: attention and MLP, each behind an RMS norm and added to the residual stream.

Legend: T tokens of the step, H hidden, X q|k|v or gate|up side by side, Q query heads, G KV heads, D
head dim. Must not know pages or sampling.
"""

import torch.nn.functional as F
from torch import Tensor

from kernels.lora_site import LoraSite
from kernels.segments import Segments
from kernels.sgmv import Sgmv
from services.inference.model.attention import AttentionStep
from services.inference.model.config import ModelConfig
from services.inference.model.linear import LoraLinear
from services.inference.model.rope import Rotation
from services.inference.model.weights import LayerWeights


class DecoderLayer:
    """Layer `index` of the decoder; `sites` are its seven, in lora_sites' order."""

    def __init__(
        self, index: int, config: ModelConfig, weights: LayerWeights, sites: tuple[LoraSite, ...], sgmv: Sgmv
    ) -> None:
        self._index = index
        self._config = config
        self._weights = weights
        self._qkv = LoraLinear(weights.qkv_OI, weights.qkv_O, sites[0:3], sgmv)
        self._o = LoraLinear(weights.o_OI, None, sites[3:4], sgmv)
        self._gate_up = LoraLinear(weights.gate_up_OI, None, sites[4:6], sgmv)
        self._down = LoraLinear(weights.down_OI, None, sites[6:7], sgmv)

    def forward_(
        self, hidden_TH: Tensor, rotation: Rotation, attention: AttentionStep, segments: Segments | None
    ) -> None:
        """Mutates hidden_TH, the residual stream; `segments` None means that every row is a base row."""
        normed_TH = self._norm(hidden_TH, self._weights.input_norm_H)
        hidden_TH += self._attend(normed_TH, rotation, attention, segments)
        normed_TH = self._norm(hidden_TH, self._weights.post_norm_H)
        gate_TX, up_TX = self._gate_up(normed_TH, segments).chunk(2, dim=-1)
        hidden_TH += self._down(F.silu(gate_TX) * up_TX, segments)

    def _attend(
        self, normed_TH: Tensor, rotation: Rotation, attention: AttentionStep, segments: Segments | None
    ) -> Tensor:
        config = self._config
        num_heads, num_kv_heads = config.num_heads, config.num_kv_heads
        qkv_TX = self._qkv(normed_TH, segments)
        heads = qkv_TX.view(-1, num_heads + 2 * num_kv_heads, config.head_dim)
        query_TQD, key_TGD, value_TGD = heads.split_with_sizes([num_heads, num_kv_heads, num_kv_heads], dim=1)
        if self._weights.q_norm_D is not None and self._weights.k_norm_D is not None:
            turned_q = rotation.turn(self._norm(query_TQD, self._weights.q_norm_D))
            turned_k = rotation.turn(self._norm(key_TGD, self._weights.k_norm_D))
        else:
            turned = rotation.turn(heads[:, : num_heads + num_kv_heads])
            turned_q, turned_k = turned.split_with_sizes([num_heads, num_kv_heads], dim=1)
        return self._o(attention.attend(self._index, turned_q, turned_k, value_TGD), segments)

    def _norm(self, values: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(values, weight.shape, weight, self._config.norm_eps)
