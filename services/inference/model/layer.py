"""One decoder layer: attention and MLP, each behind an RMS norm and added to the residual stream.

Legend: T tokens of the step, H hidden. Must not know pages, heads or sampling.
"""

from torch import Tensor

from kernels.lora_site import LoraSite
from kernels.segments import Segments
from kernels.sgmv import Sgmv
from services.inference.model.attention import AttentionStep
from services.inference.model.config import ModelConfig
from services.inference.model.linear import LoraLinear
from services.inference.model.pointwise import Pointwise
from services.inference.model.weights import LayerWeights


class DecoderLayer:
    """Layer `index` of the decoder; `sites` are its seven, in lora_sites' order."""

    def __init__(
        self,
        index: int,
        config: ModelConfig,
        weights: LayerWeights,
        sites: tuple[LoraSite, ...],
        sgmv: Sgmv,
        pointwise: Pointwise,
    ) -> None:
        self._index = index
        self._eps = config.norm_eps
        self._weights = weights
        self._pointwise = pointwise
        self._qkv = LoraLinear(weights.qkv_OI, weights.qkv_O, sites[0:3], sgmv)
        self._o = LoraLinear(weights.o_OI, None, sites[3:4], sgmv)
        self._gate_up = LoraLinear(weights.gate_up_OI, None, sites[4:6], sgmv)
        self._down = LoraLinear(weights.down_OI, None, sites[6:7], sgmv)

    def forward_(
        self,
        hidden_TH: Tensor,
        delta_TH: Tensor | None,
        attention: AttentionStep,
        segments: Segments | None,
    ) -> Tensor:
        """What the layer adds to the residual stream hidden_TH last, which it leaves to be added.

        Mutates hidden_TH: adds delta_TH, what the layer before left to be added, and its own attention.
        `segments` None means that every row is a base row.
        """
        pointwise, weights = self._pointwise, self._weights
        normed_TH = pointwise.add_norm_(hidden_TH, delta_TH, weights.input_norm_H, self._eps)
        attended_TX = attention.attend(self._index, self._qkv(normed_TH, segments))
        attended_TH = self._o(attended_TX, segments)
        normed_TH = pointwise.add_norm_(hidden_TH, attended_TH, weights.post_norm_H, self._eps)
        return self._down(pointwise.silu_mul(self._gate_up(normed_TH, segments)), segments)
