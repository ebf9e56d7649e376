"""Reads rank rows out of the pool: views of whole tiles, or a copy of many rows at once.

Must not know what the rows are multiplied with.

Legend: E elements of the pool, S adapters, R rank rows, F features (a row's width), J tiles.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from kernels.lora_site import LoraSite
from kernels.rank_row_table import RankRowTable, SiteRows


def a_tiles(table: RankRowTable, site: LoraSite, rows: SiteRows) -> list[Tensor]:
    """The tiles of A in rank order, each (its live rows, in_features), views of the pool."""
    return _tiles(table.pool_E, rows.a_offsets, table.a_rows[site.index], rows.rank, site.in_features)


def b_tiles(table: RankRowTable, site: LoraSite, rows: SiteRows) -> list[Tensor]:
    """The tiles of B transposed in rank order, each (its live rows, out_features), views of the pool."""
    return _tiles(table.pool_E, rows.b_offsets, table.b_rows[site.index], rows.rank, site.out_features)


def _tiles(pool_E: Tensor, offsets: Sequence[int], tile_rows: int, rank: int, width: int) -> list[Tensor]:
    return [
        pool_E.as_strided((min(tile_rows, rank - j * tile_rows), width), (width, 1), offset)
        for j, offset in enumerate(offsets)
        if j * tile_rows < rank
    ]


def dora_row(table: RankRowTable, site: LoraSite, rows: SiteRows) -> Tensor:
    """DoRA's column factor, (out_features,), a view of the pool."""
    return table.pool_E.as_strided((site.out_features,), (1,), rows.dora_offset)


def a_row_offsets(table: RankRowTable, adapters_S: Tensor, site: LoraSite, num_rows: int) -> Tensor:
    """Offsets in elements of the first `num_rows` rows of A per adapter, (S, num_rows) int64.

    Rows at or past an adapter's own rank have no meaning: see `dead_rows`.
    """
    return _row_offsets(
        table, adapters_S, site.index, 0, table.a_rows[site.index], site.in_features, num_rows
    )


def b_row_offsets(table: RankRowTable, adapters_S: Tensor, site: LoraSite, num_rows: int) -> Tensor:
    """The same for the rows of B transposed."""
    return _row_offsets(
        table, adapters_S, site.index, 1, table.b_rows[site.index], site.out_features, num_rows
    )


def _row_offsets(
    table: RankRowTable,
    adapters_S: Tensor,
    site_index: int,
    side: int,
    tile_rows: int,
    width: int,
    num_rows: int,
) -> Tensor:
    r_R = torch.arange(num_rows, device=adapters_S.device)
    tiles_SJ = table.offsets_NW2J[:, site_index, side].index_select(0, adapters_S)
    return tiles_SJ.index_select(1, r_R // tile_rows) + r_R % tile_rows * width


def dead_rows(table: RankRowTable, adapters_S: Tensor, site: LoraSite, num_rows: int) -> Tensor:
    """Which of the first `num_rows` rows lie past each adapter's rank, (S, num_rows) bool."""
    ranks_S = table.ranks_NW[:, site.index].index_select(0, adapters_S)
    return torch.arange(num_rows, device=ranks_S.device) >= ranks_S[:, None]


def copy_rows(pool_E: Tensor, offsets_SR: Tensor, dead_SR: Tensor, width: int) -> Tensor:
    """Copies rows of `width` elements from the given offsets, dead ones as zeros: (S, R, F)."""
    every_row = pool_E.as_strided((pool_E.numel() - width + 1, width), (1, 1))
    rows = every_row.index_select(0, offsets_SR.masked_fill(dead_SR, 0).flatten())
    return rows.view(*offsets_SR.shape, width).masked_fill_(dead_SR[:, :, None], 0)
