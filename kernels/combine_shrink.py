"""Triton kernel: puts shares of a row's decode attention together, and A of the site that reads the result.

Must not know keys, B or scales. Runs on CUDA, or under Triton's interpreter.

Semantics, for row t with adapter a, split p of the o projection's in features (some whole heads), share
s of the keys:

    x[t, q]    = sum over s of 2^(top[t, q, s] - top) partial[t, q, s]
                 / sum over s of 2^(top[t, q, s] - top) total[t, q, s]             rounded once
    h[p, t, r] = sum over k in split p of x[t, k] * A[a][r, k]                     r < rank(a)

A row without keys gets zeros. Rows are not gathered in tiles: shares of a row are many more bytes than
a rank tile of A, and one adapter's A is read from cache after its first row.

Legend: T rows, Q query heads, D head dim, S shares of the keys, P splits.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.decode_attention import KeyShares
from kernels.lora_launch import LoraLaunch, Shrunk, power_of_two
from kernels.lora_site import LoraSite
from kernels.lora_tile import (
    let_next_start,
    rank_rows,
    row_shrink,
    site_rank,
    wait_for_previous,
)


@triton.jit  # type: ignore[untyped-decorator]
def _combined(
    partial_ptr: tl.tensor,
    tops_ptr: tl.tensor,
    totals_ptr: tl.tensor,
    head: tl.tensor,  # (K,) row and head of each column
    d: tl.tensor,
    is_k: tl.tensor,
    HEAD_DIM: tl.constexpr,
    NUM_SHARES: tl.constexpr,
) -> tl.tensor:
    """(K,) float32."""
    top = tl.load(tops_ptr + head * NUM_SHARES, mask=is_k, other=float("-inf"))
    for s in tl.static_range(1, NUM_SHARES):
        top = tl.maximum(top, tl.load(tops_ptr + head * NUM_SHARES + s, mask=is_k, other=float("-inf")))
    top = tl.where(top == float("-inf"), 0.0, top)
    total = tl.full(head.shape, 0.0, tl.float32)
    out = tl.full(head.shape, 0.0, tl.float32)
    for s in tl.static_range(0, NUM_SHARES):
        share = head * NUM_SHARES + s
        weight = tl.exp2(tl.load(tops_ptr + share, mask=is_k, other=float("-inf")) - top)
        share_total = tl.load(totals_ptr + share, mask=is_k, other=0.0)
        partial = tl.load(partial_ptr + share * HEAD_DIM + d, mask=is_k, other=0.0)
        # A share without keys wrote no partial sums; one of NaNs has a total that is not 0.
        out += weight * tl.where(share_total == 0.0, 0.0, partial)
        total += weight * share_total
    return out / tl.where(total == 0.0, 1.0, total)


@triton.jit(do_not_specialize=["site"])  # type: ignore[untyped-decorator]
def combine_shrink_kernel(
    x_ptr: tl.tensor,  # (T, Q * D)
    h_ptr: tl.tensor,  # (T, ranks, P) float32
    partial_ptr: tl.tensor,  # (T, Q, S, D) float32
    tops_ptr: tl.tensor,  # (T, Q, S) float32
    totals_ptr: tl.tensor,  # (T, Q, S) float32
    pool_ptr: tl.tensor,
    row_adapters_ptr: tl.tensor,  # (T,)
    ranks_ptr: tl.tensor,  # (A, num_sites)
    scales_ptr: tl.tensor,  # (A, num_sites) float32
    offsets_ptr: tl.tensor,  # (A, num_sites, 2, max_tiles) int64
    dora_offsets_ptr: tl.tensor,  # (A, num_sites) int64
    num_sites: tl.tensor,
    max_tiles: tl.tensor,
    site: tl.tensor,
    stride_h_rank: tl.tensor,
    stride_h_row: tl.tensor,
    tile_rows: tl.tensor,
    QUERY_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    NUM_SHARES: tl.constexpr,
    HEADS: tl.constexpr,
    TILE_D: tl.constexpr,
    TILE_R: tl.constexpr,
    IS_WHOLE: tl.constexpr,
    ALIGN: tl.constexpr,
    PDL: tl.constexpr,
) -> None:
    """One program: one row, one split of HEADS heads."""
    let_next_start(PDL)
    table = (ranks_ptr, scales_ptr, offsets_ptr, dora_offsets_ptr, num_sites, max_tiles)
    WIDTH: tl.constexpr = QUERY_HEADS * HEAD_DIM
    t = tl.program_id(0).to(tl.int64)
    p = tl.program_id(1)
    j = tl.arange(0, HEADS * TILE_D)
    d = j % TILE_D
    head = p * HEADS + j // TILE_D
    k = head * HEAD_DIM + d
    is_k = (d < HEAD_DIM) & (head < QUERY_HEADS)
    adapter = tl.load(row_adapters_ptr + t).to(tl.int64)
    rank = site_rank(table, adapter, site)
    a = rank_rows(
        pool_ptr, table, adapter, site, 0, rank, k, is_k, tile_rows, WIDTH, 0, TILE_R, IS_WHOLE, ALIGN
    )
    wait_for_previous(PDL)
    x = _combined(
        partial_ptr, tops_ptr, totals_ptr, t * QUERY_HEADS + head, d, is_k, HEAD_DIM, NUM_SHARES
    ).to(x_ptr.dtype.element_ty)
    tl.store(x_ptr + t * WIDTH + k, x, mask=is_k)
    r = tl.arange(0, TILE_R)
    h_ptrs = h_ptr + t * stride_h_row + r * stride_h_rank + p
    tl.store(h_ptrs, row_shrink(x, a), mask=r < rank)
    for first_rank in range(TILE_R, rank, TILE_R):
        a = rank_rows(
            pool_ptr,
            table,
            adapter,
            site,
            first_rank,
            rank,
            k,
            is_k,
            tile_rows,
            WIDTH,
            0,
            TILE_R,
            IS_WHOLE,
            ALIGN,
        )
        tl.store(h_ptrs + first_rank * stride_h_rank, row_shrink(x, a), mask=first_rank + r < rank)


def combine_shrink(
    launch: LoraLaunch, shares: KeyShares, dtype: torch.dtype, site: LoraSite
) -> tuple[Tensor, Shrunk]:
    """The attention x of the step's rows, [T, Q * D] in `dtype`, and h of `site`."""
    num_rows, num_heads, num_shares, head_dim = shares.partial_NQPD.shape
    table, tiles = launch.table, launch.tiles
    heads = max(1, tiles.combine_columns // power_of_two(head_dim))
    num_splits = triton.cdiv(num_heads, heads)
    x_TX = shares.partial_NQPD.new_empty((num_rows, num_heads * head_dim), dtype=dtype)
    shrunk = launch.scratch(num_splits, num_rows, 1)
    combine_shrink_kernel[(num_rows, num_splits)](
        x_TX,
        shrunk.h_TXP,
        shares.partial_NQPD,
        shares.tops_NQP,
        shares.totals_NQP,
        table.pool_E,
        launch.row_tiles.row_adapters_T,
        *launch.table_arguments(),
        site.index,
        shrunk.h_TXP.stride(1),
        shrunk.h_TXP.stride(0),
        table.a_rows[site.index],
        QUERY_HEADS=num_heads,
        HEAD_DIM=head_dim,
        NUM_SHARES=num_shares,
        HEADS=power_of_two(heads),
        TILE_D=power_of_two(head_dim),
        **launch.row_constants([site]),
        **launch.options(tiles.combine_warps),
    )
    return x_TX, shrunk
