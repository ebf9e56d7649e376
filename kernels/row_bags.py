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
from kernels.weight_copies import LANES, AdapterCopy


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
    copies: Mapping[int, AdapterCopy],
    sites: Sequence[LoraSite],
    shapes: Shapes,
) -> RowBags | None:
    """Bags of the rows in `runs`, whose adapters all have copies; None if none touches `sites`.

    `shapes` are those of the same runs made so far; a new one is added.
    """
    if not any(site.index in copies[run.adapter_index].sites for run in runs for site in sites):
        return None
    width = math.gcd(*(site.out_features for site in sites))
    ranks = tuple([_ranks(copies[run.adapter_index], sites) for run in runs])
    key = (runs[0].start, ranks, sites[0].in_features, tuple([site.out_features for site in sites]))
    shape = shapes.get(key)
    if shape is None:
        shape = shapes[key] = _make_shape(runs, ranks, sites, width, table.pool_E.device)
    a_parts: list[Tensor] = []
    b_parts: list[Tensor] = []
    for run in runs:
        a_indices, b_indices = _indices(copies[run.adapter_index], sites, width, table.pool_E.device)
        a_parts.extend([a_indices] * run.num_rows)
        b_parts.extend([b_indices] * run.num_rows)
    return RowBags(
        slice(runs[0].start, runs[-1].stop),
        width,
        shape,
        torch.cat(a_parts),
        torch.cat(b_parts),
        _embedding_reads(table, runs, sites[0]) if sites[0].is_embedding else None,
        _dora_factors(table, runs, sites),
    )


def _ranks(copy: AdapterCopy, sites: Sequence[LoraSite]) -> tuple[int, ...]:
    return tuple([copy.sites[site.index].rank if site.index in copy.sites else 0 for site in sites])


def _indices(
    copy: AdapterCopy, sites: Sequence[LoraSite], width: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The rows of A and of B that one row of the batch sums, bag after bag; int32."""
    key = tuple([site.index for site in sites])
    if key not in copy.indices:
        a_parts, b_parts = [torch.arange(0)], [torch.arange(0)]
        for site in sites:
            part = copy.sites.get(site.index)
            if part is None:
                continue
            first_a, first_b = part.a_offset // LANES, part.b_offset // width
            num_chunks = site.out_features // width
            a_parts.append(torch.arange(first_a, first_a + part.num_tiles * site.in_features))
            rows_Rc = torch.arange(first_b, first_b + part.rank * num_chunks).view(part.rank, num_chunks)
            b_parts.append(rows_Rc.t().flatten())
        a_indices, b_indices = torch.cat(a_parts).int(), torch.cat(b_parts).int()
        copy.indices[key] = a_indices.to(device), b_indices.to(device)
    return copy.indices[key]


def _make_shape(
    runs: Sequence[Run],
    ranks: Sequence[tuple[int, ...]],
    sites: Sequence[LoraSite],
    width: int,
    device: torch.device,
) -> BagShape:
    x_rows: list[int] = []
    counts: list[int] = []
    first_hs: list[int] = []
    num_chunks = [site.out_features // width for site in sites]
    stop = runs[0].start
    for run, site_ranks in zip(runs, ranks, strict=True):
        num_empty = (run.start - stop) * sum(num_chunks)
        counts += [0] * num_empty
        first_hs += [0] * num_empty
        for row in range(run.start, run.stop):
            for rank, chunks in zip(site_ranks, num_chunks, strict=True):
                counts += [rank] * chunks
                first_hs += [len(x_rows) * LANES] * chunks
                x_rows += [row] * -(-rank // LANES)
        stop = run.stop
    counts_Z = torch.tensor(counts, device=device)
    offsets_Z = counts_Z.cumsum(0) - counts_Z
    shifts_Z = torch.tensor(first_hs, device=device) - offsets_Z
    h_indices_X = shifts_Z.repeat_interleave(counts_Z) + torch.arange(sum(counts), device=device)
    offsets_U = torch.arange(len(x_rows), dtype=torch.int32, device=device) * sites[0].in_features
    return BagShape(torch.tensor(x_rows, device=device), offsets_U, h_indices_X, offsets_Z.int())


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
