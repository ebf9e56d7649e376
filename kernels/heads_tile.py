"""Triton: some heads of the rows of a tile with their deltas, normed, turned and written.

Must not know the work list. What is computed: kernels.rope_expand.
"""

import triton
import triton.language as tl

from kernels.head_block import block_of_heads, head_scales, norm_weights
from kernels.lora_tile import (
    adapted,
    of_site,
    rank_rows,
    site_rank,
    site_scale,
    tile_delta,
    wait_for_previous,
)


@triton.jit  # type: ignore[untyped-decorator]
def heads_tile(
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
    start: tl.tensor,
    stop: tl.tensor,
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
    HEADS: tl.constexpr,
    TILE_M: tl.constexpr,
    TILE_I: tl.constexpr,
    TILE_R: tl.constexpr,
    IS_WHOLE: tl.constexpr,
    ALIGN: tl.constexpr,
    OPERAND: tl.constexpr,
    PDL: tl.constexpr,
) -> None:
    """Rows start..stop-1, the heads of `block`."""
    HALF: tl.constexpr = HEAD_DIM // 2
    kind, num_heads, first_head, heads_before = block_of_heads(block, QUERY_HEADS, KV_HEADS, HEADS)
    tile_rows = tl.where(kind == 0, q_tile_rows, kv_tile_rows)
    width = num_heads * HEAD_DIM
    site = first_site + kind
    j = tl.arange(0, HEADS * TILE_I)
    i = j % TILE_I
    head = first_head + j // TILE_I
    n = head * HEAD_DIM + i
    is_n = (i < HALF) & (head < num_heads)
    first_column = heads_before * HEAD_DIM
    t = start + tl.arange(0, TILE_M).to(tl.int64)
    is_row = t < stop
    is_element = is_n[:, None] & is_row[None, :]
    rank = site_rank(table, adapter, site)
    scale, dora_offset = site_scale(table, adapter, site)
    b_low = rank_rows(
        pool_ptr, table, adapter, site, 0, rank, n, is_n, tile_rows, width, 1, TILE_R, IS_WHOLE, ALIGN,
    )  # fmt: skip
    b_high = rank_rows(
        pool_ptr, table, adapter, site, 0, rank, n + HALF, is_n, tile_rows, width, 1, TILE_R, IS_WHOLE, ALIGN,
    )  # fmt: skip
    wait_for_previous(PDL)
    qkv_ptrs = qkv_ptr + t[None, :] * ((QUERY_HEADS + 2 * KV_HEADS) * HEAD_DIM) + (first_column + n)[:, None]
    low = tl.load(qkv_ptrs, mask=is_element, other=0.0)
    high = tl.load(qkv_ptrs + HALF, mask=is_element, other=0.0)
    is_turned = tl.where(kind < 2, is_element, False)
    turn_ptrs = t[None, :] * HEAD_DIM + i[:, None]
    cos = tl.load(cos_ptr + turn_ptrs, mask=is_turned, other=0.0)
    sin = tl.load(sin_ptr + turn_ptrs + HALF, mask=is_turned, other=0.0)
    slot = tl.load(slots_ptr + t, mask=is_row, other=-1).to(tl.int64)
    h_ptr = of_site(h_ptr, kind, ranks, NUM_SPLITS)
    delta_low = tile_delta(
        b_low, h_ptr, pool_ptr, table, adapter, start, stop, site, rank, n, is_n, tile_rows, width,
        stride_h_row, NUM_SPLITS, TILE_P, TILE_M, TILE_R, IS_WHOLE, ALIGN, OPERAND,
    )  # fmt: skip
    delta_high = tile_delta(
        b_high, h_ptr, pool_ptr, table, adapter, start, stop, site, rank, n + HALF, is_n, tile_rows, width,
        stride_h_row, NUM_SPLITS, TILE_P, TILE_M, TILE_R, IS_WHOLE, ALIGN, OPERAND,
    )  # fmt: skip
    low = adapted(
        low.to(tl.float32), delta_low, scale, dora_offset, pool_ptr, bias_ptr + first_column, n, is_n,
        HAS_BIAS,
    )  # fmt: skip
    high = adapted(
        high.to(tl.float32), delta_high, scale, dora_offset, pool_ptr, bias_ptr + first_column, n + HALF,
        is_n, HAS_BIAS,
    )  # fmt: skip
    if kind < 2:
        if HAS_NORM:
            of_heads = head_scales(low, high, eps, TILE_M, HEADS, TILE_I, HEAD_DIM)
            low *= of_heads * norm_weights(q_norm_ptr, k_norm_ptr, kind, i, is_n)[:, None]
            high *= of_heads * norm_weights(q_norm_ptr, k_norm_ptr, kind, i + HALF, is_n)[:, None]
        turned_low = low * cos - high * sin
        high = high * cos + low * sin
        low = turned_low
    if kind == 0:
        query_ptrs = query_ptr + t[None, :] * (QUERY_HEADS * HEAD_DIM) + n[:, None]
        tl.store(query_ptrs, low.to(query_ptr.dtype.element_ty), mask=is_element)
        tl.store(query_ptrs + HALF, high.to(query_ptr.dtype.element_ty), mask=is_element)
    else:
        to = slot // PAGE_TOKENS * page_elements + layer_offset + slot % PAGE_TOKENS * width
        to_ptrs = kv_ptr + (to + (kind - 1) * PAGE_TOKENS * width)[None, :] + n[:, None]
        is_written = is_element & (slot >= 0)[None, :]
        tl.store(to_ptrs, low.to(kv_ptr.dtype.element_ty), mask=is_written)
        tl.store(to_ptrs + HALF, high.to(kv_ptr.dtype.element_ty), mask=is_written)
