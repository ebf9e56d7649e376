"""Which copied rows each row of a batch sums, as the index tensors that torch.embedding_bag takes.

A bag is a weighted sum of rows of a matrix, each named by its index. Shrink: h is the sum over k of
x[k] times row k of A transposed. Expand: delta is the sum over r of h[r] times row r of B
transposed. Must not do the arithmetic.

Legend: T rows of the batch, M of them in bags, U bags that shrink (a row of x and a tile of A each),
Z bags that expand (a row of y and `width` of its columns each), X numbers that are multiplied with
rows of B, K in features, N out features summed over sites.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.lora_site import LoraSite
from kernels.rank_row_table import NO_TILE, RankRowTable
from kernels.rank_rows import dora_row
from kernels.row_runs import Run
from kernels.weight_copies import LANES, SiteCopies

_Sum = tuple[int, int, int, int]
"""A bag that expands: number of rows of B, the first, rows from one to the next, first number of h."""

_NO_SUM = (0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class ShrinkBags:
    """Bag u of K rows: input x_rows_U[u], tile u. Sums are (U, LANES); `h_indices_X` finds each number."""

    x_rows_U: Tensor
    indices: Tensor
    offsets_U: Tensor
    h_indices_X: Tensor


@dataclass(frozen=True, slots=True)
class ExpandBags:
    """Bags of rows of `width` floats, as many as the rank: sums are (Z, width), which is (M, N)."""

    width: int
    indices_X: Tensor
    offsets_Z: Tensor


@dataclass(frozen=True, slots=True)
class EmbeddingReads:
    """Numbers X of the pool: offset of the rank row of A, and the row of the batch whose token it is."""

    a_offsets_X: Tensor
    token_rows_X: Tensor


@dataclass(frozen=True, slots=True)
class RowBags:
    """All that the sites sharing an input need for `rows`, M adjacent rows of the batch.

    Rows of others among them have empty bags, whose sum is zero. `D_MN` is DoRA's factor, zero for
    plain adapters, None if all are plain.
    """

    rows: slice
    shrink: ShrinkBags | EmbeddingReads
    expand: ExpandBags
    D_MN: Tensor | None


def make_row_bags(
    table: RankRowTable, runs: Sequence[Run], copies: Mapping[int, SiteCopies], sites: Sequence[LoraSite]
) -> RowBags | None:
    """Bags of the rows in `runs`, whose adapters all have copies; None if none touches `sites`."""
    if not any(site.index in copies[run.adapter_index] for run in runs for site in sites):
        return None
    device = table.pool_E.device
    rows = slice(runs[0].start, runs[-1].stop)
    tiles, sums = _tiles_and_sums(runs, copies, sites)
    expand, h_indices_X = _expand_bags(sums, math.gcd(*(site.out_features for site in sites)), device)
    shrink: ShrinkBags | EmbeddingReads
    if sites[0].is_embedding:
        shrink = _embedding_reads(table, runs, sites[0])
    else:
        shrink = _shrink_bags(tiles, sites[0].in_features, h_indices_X)
    return RowBags(rows, shrink, expand, _dora_factors(table, runs, rows, sites))


def _tiles_and_sums(
    runs: Sequence[Run], copies: Mapping[int, SiteCopies], sites: Sequence[LoraSite]
) -> tuple[list[tuple[int, int]], list[_Sum]]:
    """For each bag that shrinks its row of x and first row of A, and the bags that expand."""
    width = math.gcd(*(site.out_features for site in sites))
    nothing = [_NO_SUM] * sum(site.out_features // width for site in sites)
    tiles: list[tuple[int, int]] = []
    sums: list[_Sum] = []
    row = runs[0].start
    for run in runs:
        sums.extend(nothing * (run.start - row))
        for row in range(run.start, run.stop):
            for site in sites:
                num_chunks = site.out_features // width
                copy = copies[run.adapter_index].get(site.index)
                if copy is None:
                    sums.extend([_NO_SUM] * num_chunks)
                    continue
                first_b, first_h = copy.b_offset // width, len(tiles) * LANES
                sums.extend((copy.rank, first_b + c, num_chunks, first_h) for c in range(num_chunks))
                first_a = copy.a_offset // LANES
                tiles.extend((row, first_a + tile * site.in_features) for tile in range(copy.num_tiles))
        row = run.stop
    return tiles, sums


def _shrink_bags(tiles: Sequence[tuple[int, int]], in_features: int, h_indices_X: Tensor) -> ShrinkBags:
    x_rows_U, firsts_U = torch.tensor(tiles, device=h_indices_X.device).unbind(1)
    k_K = torch.arange(in_features, device=h_indices_X.device)
    indices = (firsts_U[:, None] + k_K).flatten().int()
    offsets_U = torch.arange(0, len(indices), in_features, dtype=torch.int32, device=indices.device)
    return ShrinkBags(x_rows_U.contiguous(), indices, offsets_U, h_indices_X)


def _expand_bags(sums: Sequence[_Sum], width: int, device: torch.device) -> tuple[ExpandBags, Tensor]:
    """The bags, and which number of h each of their rows is multiplied with."""
    counts_Z, firsts_Z, steps_Z, first_hs_Z = torch.tensor(sums, device=device).unbind(1)
    offsets_Z = counts_Z.cumsum(0) - counts_Z
    z_X = torch.arange(len(sums), device=device).repeat_interleave(counts_Z)
    r_X = torch.arange(len(z_X), device=device) - offsets_Z[z_X]
    indices_X = firsts_Z[z_X] + steps_Z[z_X] * r_X
    return ExpandBags(width, indices_X.int(), offsets_Z.int()), first_hs_Z[z_X] + r_X


def _embedding_reads(table: RankRowTable, runs: Sequence[Run], site: LoraSite) -> EmbeddingReads:
    reads: list[tuple[int, int]] = []
    tile_rows = table.a_rows[site.index]
    for run in runs:
        rows = table.rows(run.adapter_index).get(site.index)
        if rows is None:
            continue
        offsets = [
            rows.a_offsets[r // tile_rows] + r % tile_rows * site.in_features for r in range(rows.rank)
        ]
        reads.extend((offset, row) for row in range(run.start, run.stop) for offset in offsets)
    a_offsets_X, token_rows_X = torch.tensor(reads, device=table.pool_E.device).unbind(1)
    return EmbeddingReads(a_offsets_X.contiguous(), token_rows_X.contiguous())


def _dora_factors(
    table: RankRowTable, runs: Sequence[Run], rows: slice, sites: Sequence[LoraSite]
) -> Tensor | None:
    out_features = sum(site.out_features for site in sites)
    D_MN = torch.zeros(rows.stop - rows.start, out_features, device=table.pool_E.device)
    has_dora = False
    column = 0
    for site in sites:
        for run in runs:
            site_rows = table.rows(run.adapter_index).get(site.index)
            if site_rows is not None and site_rows.dora_offset != NO_TILE:
                columns = slice(column, column + site.out_features)
                D_MN[run.start - rows.start : run.stop - rows.start, columns] = dora_row(
                    table, site, site_rows
                )
                has_dora = True
        column += site.out_features
    return D_MN if has_dora else None
