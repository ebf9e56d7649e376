"""The one interface of LoRA arithmetic over a mixed batch, and the choice of who does it.

Semantics of `add_`, for every row t with adapter a at site w (A, B, s, d from the RankRowTable):

    delta[t] = s * (x[t] A^T) B
    y[t]     = y[t] + delta[t]                                  plain LoRA
    y[t]     = y[t] + delta[t] + d * (y[t] - bias + delta[t])   DoRA, d = m/||W + sBA|| - 1

Base rows, and adapters without weights at w, leave y as it is. LoRA: Hu et al. 2021; SGMV: Chen et
al. 2023 (Punica); DoRA: Liu et al. 2024.
"""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from kernels.lora_site import LoraSite
from kernels.rank_row_table import RankRowTable
from kernels.segments import Segments


class Sgmv(Protocol):
    """Adds LoRA deltas to a matmul's output in place.

    T rows; K in features; N out features, summed over sites.
    """

    table: RankRowTable

    def add_(
        self, y_TN: Tensor, x_TK: Tensor, sites: Sequence[LoraSite], segments: Segments, bias_N: Tensor | None
    ) -> None:
        """Mutates y_TN, the base matmul's output with bias_N already added, as the module says.

        `sites` share the input x_TK and lie side by side in y_TN in that order (q|k|v, gate|up); a site
        always comes with the same others.
        """
        ...

    def add_embedding_(self, y_TN: Tensor, token_ids_T: Tensor, site: LoraSite, segments: Segments) -> None:
        """The same for an embedding: x[t] A^T is column token_ids[t] of A."""
        ...
