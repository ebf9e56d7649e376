"""Which copied rows each row of a batch sums, as the index tensors that torch.embedding_bag takes.

A bag is a weighted sum of rows of a matrix, each named by its index. Shrink: h is the sum over k of
x[k] times row k of A transposed. Expand: delta is the sum over r of h[r] times row r of B
transposed. Must not do the arithmetic.

Legend: T rows of the batch, M of them in bags, U bags that shrink (a row of x and a tile of A each),
Z bags that expand (a row of y and `width` of its columns each), X numbers that are multiplied with
rows of B, K in features, N out features summed over sites.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.lora_site import LoraSite
from kernels.rank_row_table import NO_TILE, RankRowTable
from kernels.rank_rows import dora_row
from kernels.row_runs import Run
from kernels.weight_copies import LANES, GroupCopy, chunk_width


@dataclass(frozen=True, slots=True)
class BagShape:
    """How many rows each bag sums and with which numbers: the same in every layer of like ranks.

    Bag u that shrinks sums K rows times input x_rows_U[u]; the results are (U, LANES), of which
    `h_indices_X` are those to expand. Bag z that expands sums the rows from offsets_Z[z] on; the
    results are (Z, width), which is (M, N).
    """

    x_rows_U: Tensor
    offsets_U: Tensor
    h_indices_X: Tensor
    offsets_Z: Tensor


Shapes = dict[tuple[object, ...], BagShape]


@dataclass(frozen=True, slots=True)
class EmbeddingReads:
    """Numbers X of the pool: offset of the rank row of A, and the row of the batch whose token it is."""

    a_offsets_X: Tensor
    token_rows_X: Tensor


@dataclass(frozen=True, slots=True)
class RowBags:
    """All that the sites sharing an input need for `rows`, M adjacent rows of the batch.

    Rows of others among them have empty bags, whose sum is zero. `a_indices` are rows of LANES floats
    of the copies, `b_indices_X` rows of `width`. `embedding` takes the place of shrinking where A has
    tokens for columns. `D_MN` is DoRA's factor, zero for plain adapters, None if all are plain.
    """

    rows: slice
    width: int
    shape: BagShape
    a_indices: Tensor
    b_indices_X: Tensor
    embedding: EmbeddingReads | None
    D_MN: Tensor | None


def make_row_bags(
    table: RankRowTable,
    runs: Sequence[Run],
    groups: Sequence[GroupCopy],
    sites: Sequence[LoraSite],
    shapes: Shapes,
) -> RowBags | None:
    """Bags of the rows in `runs`, whose adapters' copies are `groups`; None if none touches `sites`.

    `shapes` are those of the same runs made so far; a new one is added.
    """
    ranks = tuple([group.ranks for group in groups])
    if not any(map(any, ranks)):
        return None
    width = chunk_width(sites)
    key = (runs[0].start, ranks, sites[0].in_features, tuple([site.out_features for site in sites]))
    shape = shapes.get(key)
    if shape is None:
        shape = shapes[key] = _make_shape(runs, groups, sites, width, table.pool_E.device)
    of_rows = [group for run, group in zip(runs, groups, strict=True) for _ in range(run.num_rows)]
    return RowBags(
        slice(runs[0].start, runs[-1].stop),
        width,
        shape,
        torch.cat([group.a_indices for group in of_rows]),
        torch.cat([group.b_indices for group in of_rows]),
        _embedding_reads(table, runs, sites[0]) if sites[0].is_embedding else None,
        _dora_factors(table, runs, sites),
    )


def _make_shape(
    runs: Sequence[Run],
    groups: Sequence[GroupCopy],
    sites: Sequence[LoraSite],
    width: int,
    device: torch.device,
) -> BagShape:
    x_rows: list[int] = []
    counts: list[int] = []
    first_hs: list[int] = []
    num_chunks = [site.out_features // width for site in sites]
    stop = runs[0].start
    for run, group in zip(runs, groups, strict=True):
        num_empty = (run.start - stop) * sum(num_chunks)
        counts += [0] * num_empty
        first_hs += [0] * num_empty
        for row in range(run.start, run.stop):
            first_h = len(x_rows) * LANES
            for rank, chunks in zip(group.ranks, num_chunks, strict=True):
                counts += [rank] * chunks
                first_hs += [first_h] * chunks
                first_h += rank
            x_rows += [row] * group.num_tiles
        stop = run.stop
    counts_Z = torch.tensor(counts, device=device)
    offsets_Z = counts_Z.cumsum(0) - counts_Z
    shifts_Z = torch.tensor(first_hs, device=device) - offsets_Z
    h_indices_X = shifts_Z.repeat_interleave(counts_Z) + torch.arange(sum(counts), device=device)
    offsets_U = torch.arange(len(x_rows), dtype=torch.int32, device=device) * sites[0].in_features
    x_rows_U = torch.tensor(x_rows, dtype=torch.int64, device=device)
    return BagShape(x_rows_U, offsets_U, h_indices_X, offsets_Z.int())


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


def _dora_factors(table: RankRowTable, runs: Sequence[Run], sites: Sequence[LoraSite]) -> Tensor | None:
    shape = (runs[-1].stop - runs[0].start, sum(site.out_features for site in sites))
    D_MN: Tensor | None = None
    for run in runs:
        column = 0
        for site in sites:
            rows = table.rows(run.adapter_index).get(site.index)
            if rows is not None and rows.dora_offset != NO_TILE:
                if D_MN is None:
                    D_MN = torch.zeros(shape, device=table.pool_E.device)
                of_run = slice(run.start - runs[0].start, run.stop - runs[0].start)
                D_MN[of_run, column : column + site.out_features] = dora_row(table, site, rows)
            column += site.out_features
    return D_MN
