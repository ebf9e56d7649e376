"""Triton kernel: RMS norm of rows whose sums of squares are known, and A of the sites that read the result.

Must not know B, scales or who wrote the sums. Runs on CUDA, or under Triton's interpreter.

Semantics, for row t of adapter a, site g of those that share the input, split p of the K in features:

    x[t, k]       = hidden[t, k] / sqrt(sum over c of sums[t, c] / K + eps) * weight[k]    rounded once
    h[p, t, g, r] = sum over k in split p of x[t, k] * A[a, g][r, k]                       r < rank(a, g)

Without a norm x is the input as it is. Every row of the work list gets its x, base rows too; nothing is
written at ranks past the adapter's own. Splits depend on K alone, so a row's sums do not depend on the
rest of the batch.

Legend: T rows, K in features, C column tiles that have a sum each, P splits, G sites.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.lora_launch import LoraLaunch, Shrunk, power_of_two
from kernels.lora_site import LoraSite
from kernels.lora_tile import let_next_start, wait_for_previous
from kernels.norm_chunks import norm_chunks
from kernels.norm_row import norm_row
from kernels.norm_tile import norm_tile
from kernels.row_tiles import TILE_FIELDS

_TILE_FIELDS = tl.constexpr(TILE_FIELDS)


@triton.jit(do_not_specialize=["first_site"])  # type: ignore[untyped-decorator]
def norm_shrink_kernel(
    x_ptr: tl.tensor,  # (T, K), written if HAS_NORM
    h_ptr: tl.tensor,  # (T, G * ranks, P) float32
    hidden_ptr: tl.tensor,  # (T, K)
    sums_ptr: tl.tensor,  # (T, C) float32, read if HAS_NORM, as are weight_ptr and eps
    weight_ptr: tl.tensor,  # (K,)
    pool_ptr: tl.tensor,
    row_tiles_ptr: tl.tensor,  # (W, 3)
    num_tiles_ptr: tl.tensor,  # (1,)
    ranks_ptr: tl.tensor,  # (A, num_sites)
    scales_ptr: tl.tensor,  # (A, num_sites) float32
    offsets_ptr: tl.tensor,  # (A, num_sites, 2, max_tiles) int64
    dora_offsets_ptr: tl.tensor,  # (A, num_sites) int64
    num_sites: tl.tensor,
    max_tiles: tl.tensor,
    first_site: tl.tensor,  # the G sites have consecutive indices
    width: tl.tensor,
    eps: tl.tensor,
    stride_h_rank: tl.tensor,
    stride_h_row: tl.tensor,
    ranks: tl.tensor,
    tile_rows: tl.tensor,
    HAS_NORM: tl.constexpr,
    GROUP_SITES: tl.constexpr,
    NUM_SUMS: tl.constexpr,
    TILE_C: tl.constexpr,
    SPLIT_K: tl.constexpr,
    TILE_M: tl.constexpr,
    TILE_K: tl.constexpr,
    CHUNKS: tl.constexpr,
    TILE_R: tl.constexpr,
    IS_WHOLE: tl.constexpr,
    ALIGN: tl.constexpr,
    OPERAND: tl.constexpr,
    PDL: tl.constexpr,
) -> None:
    """Programs take turns in the items: a row tile, a split of K and a site each.

    What is read of one row is little beside a site's A. Of some it is not: there one item serves all sites.
    Of many a program would not have room for all that at once: it takes TILE_K features after the other.
    """
    let_next_start(PDL)
    table = (ranks_ptr, scales_ptr, offsets_ptr, dora_offsets_ptr, num_sites, max_tiles)
    num_parts = tl.cdiv(width, SPLIT_K) * GROUP_SITES
    num_items = tl.load(num_tiles_ptr) * num_parts
    for item in range(tl.program_id(0), num_items, tl.num_programs(0)):
        tile_ptr = row_tiles_ptr + item // num_parts * _TILE_FIELDS
        adapter = tl.load(tile_ptr).to(tl.int64)
        start = tl.load(tile_ptr + 1)
        stop = tl.load(tile_ptr + 2)
        p = item % num_parts // GROUP_SITES
        g = item % GROUP_SITES
        if stop - start == 1:
            norm_row(
                x_ptr, h_ptr, hidden_ptr, sums_ptr, weight_ptr, pool_ptr, table, adapter, start, g, p,
                first_site, width, eps, stride_h_rank, stride_h_row, ranks, tile_rows, HAS_NORM, NUM_SUMS,
                TILE_C, SPLIT_K, CHUNKS, TILE_R, IS_WHOLE, ALIGN, OPERAND, PDL,
            )  # fmt: skip
        elif TILE_K < SPLIT_K:
            norm_chunks(
                x_ptr, h_ptr, hidden_ptr, sums_ptr, weight_ptr, pool_ptr, table, adapter, start, stop, g, p,
                first_site, width, eps, stride_h_rank, stride_h_row, ranks, tile_rows, HAS_NORM, NUM_SUMS,
                TILE_C, SPLIT_K, TILE_M, TILE_K, TILE_R, IS_WHOLE, ALIGN, OPERAND, PDL,
            )  # fmt: skip
        elif g == 0:
            norm_tile(
                x_ptr, h_ptr, hidden_ptr, sums_ptr, weight_ptr, pool_ptr, table, adapter, start, stop, p,
                first_site, width, eps, stride_h_rank, stride_h_row, ranks, tile_rows, HAS_NORM, GROUP_SITES,
                NUM_SUMS, TILE_C, SPLIT_K, TILE_M, CHUNKS, TILE_R, IS_WHOLE, ALIGN, OPERAND, PDL,
            )  # fmt: skip
    # A program without work waits too.
    wait_for_previous(PDL)


def norm_shrink(
    launch: LoraLaunch,
    hidden_TK: Tensor,
    sums_TC: Tensor,
    weight_K: Tensor,
    eps: float,
    sites: Sequence[LoraSite],
) -> tuple[Tensor, Shrunk]:
    """The norm x of hidden_TK, [T, K] in its dtype, and h of `sites`.

    The sites read x and have consecutive indices. float32, bfloat16 or float16, contiguous.
    """
    x_TK = torch.empty_like(hidden_TK)
    return x_TK, _launch(launch, x_TK, hidden_TK, sums_TC, weight_K, eps, sites)


def shrink(launch: LoraLaunch, x_TK: Tensor, site: LoraSite) -> Shrunk:
    """h of `site`, which reads x_TK."""
    return _launch(launch, x_TK, x_TK, None, x_TK, 0.0, (site,))


def _launch(
    launch: LoraLaunch,
    x_TK: Tensor,
    hidden_TK: Tensor,
    sums_TC: Tensor | None,
    weight_K: Tensor,
    eps: float,
    sites: Sequence[LoraSite],
) -> Shrunk:
    num_rows, width = hidden_TK.shape
    table, tiles, row_tiles = launch.table, launch.tiles, launch.row_tiles
    split, num_warps = tiles.shrink(width)
    num_splits = triton.cdiv(width, split)
    num_sums = 1 if sums_TC is None else sums_TC.shape[1]
    shrunk = launch.scratch(num_splits, num_rows, len(sites))
    norm_shrink_kernel[launch.grid(num_splits * len(sites))](
        x_TK,
        shrunk.h_TXP,
        hidden_TK,
        shrunk.h_TXP if sums_TC is None else sums_TC,
        weight_K,
        table.pool_E,
        row_tiles.tiles_W3,
        row_tiles.num_tiles_1,
        *launch.table_arguments(),
        sites[0].index,
        width,
        eps,
        shrunk.h_TXP.stride(1),
        shrunk.h_TXP.stride(0),
        launch.rank_capacity,
        table.a_rows[sites[0].index],
        HAS_NORM=sums_TC is not None,
        GROUP_SITES=len(sites),
        NUM_SUMS=num_sums,
        TILE_C=power_of_two(num_sums),
        SPLIT_K=split,
        TILE_M=row_tiles.tile_rows,
        TILE_K=min(split, tiles.shrink_columns),
        CHUNKS=num_warps,
        **launch.constants(sites, x_TK),
        **launch.options(num_warps, tiles.max_registers),
    )
    return shrunk
