"""Reads rank rows out of the pool: views of whole tiles, or a copy of many rows at once.

Must not know what the rows are multiplied with.

Legend: E elements of the pool, R rank rows, F features (a row's width), J tiles.
"""

from collections.abc import Sequence

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


def copy_rows(pool_E: Tensor, offsets_R: Tensor, width: int) -> Tensor:
    """Copies the rows of `width` elements at the given offsets, as float32: (R, F)."""
    every_row = pool_E.as_strided((pool_E.numel() - width + 1, width), (1, 1))
    return every_row.index_select(0, offsets_R).float()
