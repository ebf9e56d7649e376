"""The plain, obviously right LoRA arithmetic, row by row: what every other implementation is held to.

Slow on purpose. Must not share arithmetic with what it checks.

Legend: T rows, K in features, N out features, R rank.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from kernels.lora_site import LoraSite
from kernels.rank_row_table import NO_TILE, RankRowTable, SiteRows
from kernels.rank_rows import a_tiles, b_tiles, dora_row
from kernels.segments import BASE, Segments


class ReferenceSgmv:
    """`Sgmv` computed in `dtype` (float32, or float64 as ground truth) one row and one site at a time."""

    def __init__(self, table: RankRowTable, dtype: torch.dtype = torch.float32) -> None:
        self.table = table
        self._dtype = dtype

    def add_(
        self, y_TN: Tensor, x_TK: Tensor, sites: Sequence[LoraSite], segments: Segments, bias_N: Tensor | None
    ) -> None:
        """y[t] += s (x[t] A^T) B, then DoRA; see `kernels.sgmv`."""
        column = 0
        for site in sites:
            columns = slice(column, column + site.out_features)
            bias = None if bias_N is None else bias_N[columns]
            self._add_site(y_TN[:, columns], site, segments, bias, lambda t, A_RK: A_RK @ self._wide(x_TK[t]))
            column += site.out_features

    def add_embedding_(self, y_TN: Tensor, token_ids_T: Tensor, site: LoraSite, segments: Segments) -> None:
        """y[t] += s A[:, token_ids[t]] B, then DoRA."""
        self._add_site(y_TN, site, segments, None, lambda t, A_RK: A_RK[:, int(token_ids_T[t])])

    def shrink(self, x_TK: Tensor, site: LoraSite, segments: Segments, num_ranks: int) -> Tensor:
        """x[t] A^T of each row, [T, num_ranks]; 0 where the row's adapter has no such rank."""
        h_TR = torch.zeros((len(x_TK), num_ranks), dtype=self._dtype, device=x_TK.device)
        for s, adapter in enumerate(segments.adapter_indices):
            rows = None if adapter == BASE else self.table.rows(adapter).get(site.index)
            if rows is not None:
                A_RK = self._wide(torch.cat(a_tiles(self.table, site, rows)))
                for t in range(segments.starts[s], segments.starts[s + 1]):
                    h_TR[t, : rows.rank] = A_RK @ self._wide(x_TK[t])
        return h_TR

    def expand_(
        self, y_TN: Tensor, h_TR: Tensor, site: LoraSite, segments: Segments, bias_N: Tensor | None
    ) -> None:
        """y[t] += s h[t] B, then DoRA, with h as `shrink` gives it."""
        self._add_site(y_TN, site, segments, bias_N, lambda t, A_RK: self._wide(h_TR[t, : len(A_RK)]))

    def _add_site(
        self,
        y_TN: Tensor,
        site: LoraSite,
        segments: Segments,
        bias_N: Tensor | None,
        shrink: Callable[[int, Tensor], Tensor],
    ) -> None:
        for s, adapter in enumerate(segments.adapter_indices):
            rows = None if adapter == BASE else self.table.rows(adapter).get(site.index)
            if rows is None:
                continue
            A_RK = self._wide(torch.cat(a_tiles(self.table, site, rows)))
            for t in range(segments.starts[s], segments.starts[s + 1]):
                y_TN[t] = self._row(self._wide(y_TN[t]), shrink(t, A_RK), site, rows, bias_N).to(y_TN.dtype)

    def _row(self, y_N: Tensor, h_R: Tensor, site: LoraSite, rows: SiteRows, bias_N: Tensor | None) -> Tensor:
        delta_N = rows.scale * (h_R @ self._wide(torch.cat(b_tiles(self.table, site, rows))))
        if rows.dora_offset == NO_TILE:
            return y_N + delta_N
        base_N = y_N if bias_N is None else y_N - self._wide(bias_N)
        return y_N + delta_N + self._wide(dora_row(self.table, site, rows)) * (base_N + delta_N)

    def _wide(self, tensor: Tensor) -> Tensor:
        return tensor.to(self._dtype)
