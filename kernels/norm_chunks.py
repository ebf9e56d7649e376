"""Triton: a tile of many rows of one split through the norm, chunk after chunk, and A of one site.

Must not know the work list. What is computed: kernels.norm_shrink.
"""

import triton
import triton.language as tl

from kernels.lora_tile import rank_rows, site_rank, tile_shrink, wait_for_previous


@triton.jit  # type: ignore[untyped-decorator]
def norm_chunks(
    x_ptr: tl.tensor,
    h_ptr: tl.tensor,
    hidden_ptr: tl.tensor,
    sums_ptr: tl.tensor,
    weight_ptr: tl.tensor,
    pool_ptr: tl.tensor,
    table: tl.tuple,
    adapter: tl.tensor,
    start: tl.tensor,
    stop: tl.tensor,
    g: tl.tensor,
    p: tl.tensor,
    first_site: tl.tensor,
    width: tl.tensor,
    eps: tl.tensor,
    stride_h_rank: tl.tensor,
    stride_h_row: tl.tensor,
    ranks: tl.tensor,
    tile_rows: tl.tensor,
    HAS_NORM: tl.constexpr,
    NUM_SUMS: tl.constexpr,
    TILE_C: tl.constexpr,
    SPLIT_K: tl.constexpr,
    TILE_M: tl.constexpr,
    TILE_K: tl.constexpr,
    TILE_R: tl.constexpr,
    IS_WHOLE: tl.constexpr,
    ALIGN: tl.constexpr,
    OPERAND: tl.constexpr,
    PDL: tl.constexpr,
) -> None:
    """Rows start..stop-1, split p in chunks of TILE_K, site g."""
    site = first_site + g
    t = start + tl.arange(0, TILE_M).to(tl.int64)
    is_row = t < stop
    rank = site_rank(table, adapter, site)
    wait_for_previous(PDL)
    scale = tl.full((TILE_M,), 1.0, tl.float32)
    if HAS_NORM:
        c = tl.arange(0, TILE_C)
        is_sum = (c < NUM_SUMS)[:, None] & is_row[None, :]
        sums = tl.load(sums_ptr + t[None, :] * NUM_SUMS + c[:, None], mask=is_sum, other=0.0)
        scale = tl.rsqrt(tl.sum(sums, 0) / width + eps)
    r = tl.arange(0, TILE_R)
    h_ptrs = h_ptr + ((g * ranks + r) * stride_h_rank)[:, None] + t[None, :] * stride_h_row + p
    # At least once, since x is wanted of base rows too.
    for first_rank in range(0, tl.maximum(rank, 1), TILE_R):
        h = tl.full((TILE_R, TILE_M), 0.0, tl.float32)
        for first in range(0, SPLIT_K, TILE_K):
            k = p * SPLIT_K + first + tl.arange(0, TILE_K)
            is_k = k < width
            a = rank_rows(
                pool_ptr, table, adapter, site, first_rank, rank, k, is_k, tile_rows, width, 0, TILE_R,
                IS_WHOLE, ALIGN,
            )  # fmt: skip
            at = t[None, :] * width + k[:, None]
            is_element = is_k[:, None] & is_row[None, :]
            x = tl.load(hidden_ptr + at, mask=is_element, other=0.0)
            if HAS_NORM:
                weight = tl.load(weight_ptr + k, mask=is_k, other=0.0).to(tl.float32)
                x = (x.to(tl.float32) * scale[None, :] * weight[:, None]).to(x_ptr.dtype.element_ty)
                if g + first_rank == 0:
                    tl.store(x_ptr + at, x, mask=is_element)
            h += tile_shrink(x, a, 1, OPERAND)
        is_rank = first_rank + r < rank
        tl.store(h_ptrs + first_rank * stride_h_rank, h, mask=is_rank[:, None] & is_row[None, :])
