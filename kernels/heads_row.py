"""Triton: some heads of one row with their deltas, normed, turned and written.

Must not know the work list. What is computed: kernels.rope_expand.
"""

import triton
import triton.language as tl

from kernels.head_block import block_of_heads, head_scales, norm_weights
from kernels.lora_tile import (
    adapted,
    of_site,
    rank_rows,
    row_delta,
    row_ranks,
    site_rank,
    site_scale,
    wait_for_previous,
)


@triton.jit  # type: ignore[untyped-decorator]
def heads_row(
    query_ptr: tl.tensor,
    kv_ptr: tl.tensor,
    pool_ptr: tl.tensor,
    qkv_ptr: tl.tensor,
    bias_ptr: tl.tensor,
    h_ptr: tl.tensor,
    cos_ptr: tl.tensor,
    sin_ptr: tl.tensor,
    slots_ptr: tl.tensor,
    q_norm_ptr: tl.tensor,
    k_norm_ptr: tl.tensor,
    table: tl.tuple,
    adapter: tl.tensor,
    row: tl.tensor,
    block: tl.tensor,
    first_site: tl.tensor,
    layer_offset: tl.tensor,
    page_elements: tl.tensor,
    eps: tl.tensor,
    stride_h_row: tl.tensor,
    ranks: tl.tensor,
    q_tile_rows: tl.tensor,
    kv_tile_rows: tl.tensor,
    NUM_SPLITS: tl.constexpr,
    TILE_P: tl.constexpr,
    QUERY_HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PAGE_TOKENS: tl.constexpr,
    HAS_NORM: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    BLOCK_HEADS: tl.constexpr,
    HEADS: tl.constexpr,
    TILE_I: tl.constexpr,
    TILE_R: tl.constexpr,
    IS_WHOLE: tl.constexpr,
    ALIGN: tl.constexpr,
    OPERAND: tl.constexpr,
    PDL: tl.constexpr,
) -> None:
    """Row `row`, HEADS heads of one kind from the first of `block` on, whose blocks have BLOCK_HEADS."""
    HALF: tl.constexpr = HEAD_DIM // 2
    kind, num_heads, first_head, heads_before = block_of_heads(block, QUERY_HEADS, KV_HEADS, BLOCK_HEADS)
    tile_rows = tl.where(kind == 0, q_tile_rows, kv_tile_rows)
    width = num_heads * HEAD_DIM
    site = first_site + kind
    j = tl.arange(0, HEADS * TILE_I)
    i = j % TILE_I
    head = first_head + j // TILE_I
    n = head * HEAD_DIM + i
    is_n = (i < HALF) & (head < num_heads)
    first_column = heads_before * HEAD_DIM
    t = row.to(tl.int64)
    rank = site_rank(table, adapter, site)
    scale, dora_offset = site_scale(table, adapter, site)
    wait_for_previous(PDL)
    h_ptr = of_site(h_ptr, kind, ranks, NUM_SPLITS)
    h = row_ranks(h_ptr, t, 0, rank, stride_h_row, NUM_SPLITS, TILE_P, TILE_R)
    b_low = rank_rows(
        pool_ptr, table, adapter, site, 0, rank, n, is_n, tile_rows, width, 1, TILE_R, IS_WHOLE, ALIGN,
    )  # fmt: skip
    qkv_ptrs = qkv_ptr + t * ((QUERY_HEADS + 2 * KV_HEADS) * HEAD_DIM) + first_column + n
    low = tl.load(qkv_ptrs, mask=is_n, other=0.0).to(tl.float32)
    high = tl.load(qkv_ptrs + HALF, mask=is_n, other=0.0).to(tl.float32)
    cos = tl.load(cos_ptr + t * HEAD_DIM + i, mask=is_n, other=0.0)
    sin = tl.load(sin_ptr + t * HEAD_DIM + HALF + i, mask=is_n, other=0.0)
    slot = tl.load(slots_ptr + t).to(tl.int64)
    delta_low = row_delta(
        b_low, h, h_ptr, pool_ptr, table, adapter, t, site, rank, n, is_n, tile_rows, width, stride_h_row,
        NUM_SPLITS, TILE_P, TILE_R, IS_WHOLE, ALIGN, OPERAND,
    )  # fmt: skip
    # Read now and not before: more registers a thread would mean fewer programs at once.
    tl.debug_barrier()
    b_high = rank_rows(
        pool_ptr, table, adapter, site, 0, rank, n + HALF, is_n, tile_rows, width, 1, TILE_R, IS_WHOLE,
        ALIGN,
    )  # fmt: skip
    delta_high = row_delta(
        b_high, h, h_ptr, pool_ptr, table, adapter, t, site, rank, n + HALF, is_n, tile_rows, width,
        stride_h_row, NUM_SPLITS, TILE_P, TILE_R, IS_WHOLE, ALIGN, OPERAND,
    )  # fmt: skip
    bias_ptr += first_column
    low = adapted(low, delta_low, scale, dora_offset, pool_ptr, bias_ptr, n, is_n, HAS_BIAS)
    high = adapted(high, delta_high, scale, dora_offset, pool_ptr, bias_ptr, n + HALF, is_n, HAS_BIAS)
    if HAS_NORM:
        of_heads = tl.reshape(
            head_scales(low[:, None], high[:, None], eps, 1, HEADS, TILE_I, HEAD_DIM), (HEADS * TILE_I,),
        )  # fmt: skip
        of_heads = tl.where(kind < 2, of_heads, 1.0)
        low *= tl.where(kind < 2, of_heads * norm_weights(q_norm_ptr, k_norm_ptr, kind, i, is_n), 1.0)
        high *= tl.where(
            kind < 2, of_heads * norm_weights(q_norm_ptr, k_norm_ptr, kind, i + HALF, is_n), 1.0,
        )  # fmt: skip
    turned_low = tl.where(kind < 2, low * cos - high * sin, low)
    turned_high = tl.where(kind < 2, high * cos + low * sin, high)
    if kind == 0:
        query_ptrs = query_ptr + t * (QUERY_HEADS * HEAD_DIM) + n
        tl.store(query_ptrs, turned_low.to(query_ptr.dtype.element_ty), mask=is_n)
        tl.store(query_ptrs + HALF, turned_high.to(query_ptr.dtype.element_ty), mask=is_n)
    else:
        to = slot // PAGE_TOKENS * page_elements + layer_offset + slot % PAGE_TOKENS * width
        to_ptrs = kv_ptr + to + (kind - 1) * PAGE_TOKENS * width + n
        is_written = tl.where(slot >= 0, is_n, False)
        tl.store(to_ptrs, turned_low.to(kv_ptr.dtype.element_ty), mask=is_written)
        tl.store(to_ptrs + HALF, turned_high.to(kv_ptr.dtype.element_ty), mask=is_written)
