"""Attention by torch ops, from q|k|v on: norms and turns the heads, then TorchAttention.

Legend: T tokens of the step, X q|k|v side by side, Q query heads, G KV heads, D head dim. Must not
know projections or LoRA.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from services.inference.batch import Batch
from services.inference.model.config import ModelConfig
from services.inference.model.head_norms import HeadNorms
from services.inference.model.rope import Rope, Rotation
from services.inference.model.torch_attention import TorchAttention, TorchAttentionStep


class TorchHeads:
    """`Attention` on any device; `norms` by layer."""

    def __init__(
        self,
        config: ModelConfig,
        rope: Rope,
        norms: Sequence[HeadNorms | None],
        attention: TorchAttention,
    ) -> None:
        self._config = config
        self._rope = rope
        self._norms = norms
        self._attention = attention

    def begin(self, batch: Batch) -> "TorchHeadsStep":
        """As Attention.begin; zeroes the pages that sequences begin and leave partly empty."""
        rotation = self._rope.rotation(batch.positions_T)
        return TorchHeadsStep(self._config, self._norms, rotation, self._attention.begin(batch))


class TorchHeadsStep:
    """TorchHeads of one batch."""

    def __init__(
        self,
        config: ModelConfig,
        norms: Sequence[HeadNorms | None],
        rotation: Rotation,
        attention: TorchAttentionStep,
    ) -> None:
        self._config = config
        self._norms = norms
        self._rotation = rotation
        self._attention = attention

    def attend(self, layer: int, qkv_TX: Tensor) -> Tensor:
        """As AttentionStep.attend."""
        num_heads, num_kv_heads = self._config.num_heads, self._config.num_kv_heads
        heads = qkv_TX.view(-1, num_heads + 2 * num_kv_heads, self._config.head_dim)
        query_TQD, key_TGD, value_TGD = heads.split_with_sizes([num_heads, num_kv_heads, num_kv_heads], dim=1)
        norms = self._norms[layer]
        if norms is not None:
            turned_q = self._rotation.turn(self._norm(query_TQD, norms.query_D))
            turned_k = self._rotation.turn(self._norm(key_TGD, norms.key_D))
        else:
            turned = self._rotation.turn(heads[:, : num_heads + num_kv_heads])
            turned_q, turned_k = turned.split_with_sizes([num_heads, num_kv_heads], dim=1)
        return self._attention.attend(layer, turned_q, turned_k, value_TGD)

    def _norm(self, heads: Tensor, weight_D: Tensor) -> Tensor:
        return F.rms_norm(heads, weight_D.shape, weight_D, self._config.norm_eps)
