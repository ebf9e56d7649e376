"""What each fused kernel computes, in plain torch and row by row: what the kernels are held to.

Must not share arithmetic with what it checks. Nothing is rounded but what is stored in the middle.

Legend: T rows, H hidden, K in features, X q|k|v or gate|up side by side, Q query heads, G KV heads, D head
dim, F inner features, S shares of the keys, R ranks.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.lora_site import LoraSite
from kernels.rank_row_table import RankRowTable
from kernels.reference import ReferenceSgmv
from kernels.segments import Segments


class FusedReference:
    """In float64. h is the sum over splits, one [T, R] a site; whatever has an adapter is by `segments`."""

    def __init__(self, table: RankRowTable, segments: Segments) -> None:
        self._sgmv = ReferenceSgmv(table, torch.float64)
        self._segments = segments

    def residual_expand(self, hidden_TH: Tensor, y_TH: Tensor, h_TR: Tensor, site: LoraSite) -> Tensor:
        """hidden + y + delta."""
        return hidden_TH.double() + self._expanded(y_TH, [h_TR], [site], None)

    def norm(self, hidden_TK: Tensor, weight_K: Tensor, eps: float) -> Tensor:
        """RMS norm."""
        wide_TK = hidden_TK.double()
        return wide_TK * torch.rsqrt(wide_TK.square().mean(-1, keepdim=True) + eps) * weight_K.double()

    def shrink(self, x_TK: Tensor, site: LoraSite, num_ranks: int) -> Tensor:
        """x A^T, [T, num_ranks]."""
        return self._sgmv.shrink(x_TK, site, self._segments, num_ranks)

    def heads(
        self, qkv_TX: Tensor, bias_X: Tensor | None, hs: Sequence[Tensor], sites: Sequence[LoraSite]
    ) -> list[Tensor]:
        """q, k and v with their deltas."""
        z_TX = self._expanded(qkv_TX, hs, sites, bias_X)
        return list(z_TX.split_with_sizes([site.out_features for site in sites], dim=1))

    def turn(self, heads_TGD: Tensor, cos_TD: Tensor, sin_TD: Tensor) -> Tensor:
        """Dimension i against dimension i + D/2; the first half of sin_TD is not read."""
        half = heads_TGD.shape[-1] // 2
        low, high = heads_TGD.double().chunk(2, dim=-1)
        cos, sin = cos_TD[:, None, :half].double(), sin_TD[:, None, half:].double()
        return torch.cat([low * cos - high * sin, high * cos + low * sin], dim=-1)

    def combine(self, partial_TQSD: Tensor, tops_TQS: Tensor, totals_TQS: Tensor) -> Tensor:
        """Attention of each row, [T, Q * D]; 0 for a row without keys."""
        weights_TQS = torch.exp2(tops_TQS.double() - tops_TQS.double().amax(-1, keepdim=True)).nan_to_num()
        shares = torch.where((totals_TQS == 0)[..., None], 0.0, partial_TQSD.double())
        out_TQD = (weights_TQS[..., None] * shares).sum(2)
        totals = (weights_TQS * totals_TQS.double()).sum(-1, keepdim=True)
        return (out_TQD / torch.where(totals == 0, 1.0, totals)).flatten(1)

    def silu_mul(self, y_TX: Tensor, hs: Sequence[Tensor], sites: Sequence[LoraSite]) -> Tensor:
        """SiLU(gate) * up with the deltas of both, [T, F]."""
        gate_TF, up_TF = self._expanded(y_TX, hs, sites, None).chunk(2, dim=1)
        return F.silu(gate_TF) * up_TF

    def _expanded(
        self, y_TX: Tensor, hs: Sequence[Tensor], sites: Sequence[LoraSite], bias_X: Tensor | None
    ) -> Tensor:
        z_TX, column = y_TX.double(), 0
        for site, h_TR in zip(sites, hs, strict=True):
            columns = slice(column, column + site.out_features)
            bias = None if bias_X is None else bias_X[columns]
            self._sgmv.expand_(z_TX[:, columns], h_TR, site, self._segments, bias)
            column += site.out_features
        return z_TX
