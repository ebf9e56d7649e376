"""Triton: one row of one split through the norm, and A of one site.

Must not know the work list. What is computed: kernels.norm_shrink.
"""

import triton
import triton.language as tl

from kernels.lora_tile import rank_rows, row_product, site_rank, wait_for_previous


@triton.jit  # type: ignore[untyped-decorator]
def norm_row(
    x_ptr: tl.tensor,
    h_ptr: tl.tensor,
    hidden_ptr: tl.tensor,
    sums_ptr: tl.tensor,
    weight_ptr: tl.tensor,
    pool_ptr: tl.tensor,
    table: tl.tuple,
    adapter: tl.tensor,
    row: tl.tensor,
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
    CHUNKS: tl.constexpr,
    TILE_R: tl.constexpr,
    IS_WHOLE: tl.constexpr,
    ALIGN: tl.constexpr,
    OPERAND: tl.constexpr,
    PDL: tl.constexpr,
) -> None:
    """Row `row`, split p, site g."""
    k = p * SPLIT_K + tl.arange(0, SPLIT_K)
    is_k = k < width
    site = first_site + g
    rank = site_rank(table, adapter, site)
    a = rank_rows(
        pool_ptr, table, adapter, site, 0, rank, k, is_k, tile_rows, width, 0, TILE_R, IS_WHOLE, ALIGN,
    )  # fmt: skip
    t = row.to(tl.int64)
    at = t * width + k
    if HAS_NORM:
        weight = tl.load(weight_ptr + k, mask=is_k, other=0.0).to(tl.float32)
    wait_for_previous(PDL)
    x = tl.load(hidden_ptr + at, mask=is_k, other=0.0)
    if HAS_NORM:
        c = tl.arange(0, TILE_C)
        sums = tl.load(sums_ptr + t * NUM_SUMS + c, mask=c < NUM_SUMS, other=0.0)
        scale = tl.rsqrt(tl.sum(sums, 0) / width + eps)
        x = (x.to(tl.float32) * scale * weight).to(x_ptr.dtype.element_ty)
        if g == 0:
            tl.store(x_ptr + at, x, mask=is_k)
    r = tl.arange(0, TILE_R)
    h_ptrs = h_ptr + (g * ranks + r) * stride_h_rank + t * stride_h_row + p
    tl.store(h_ptrs, row_product(x, a, CHUNKS, OPERAND), mask=r < rank)
    for first_rank in range(TILE_R, rank, TILE_R):
        a = rank_rows(
            pool_ptr, table, adapter, site, first_rank, rank, k, is_k, tile_rows, width, 0, TILE_R, IS_WHOLE,
            ALIGN,
        )  # fmt: skip
        h = row_product(x, a, CHUNKS, OPERAND)
        tl.store(h_ptrs + first_rank * stride_h_rank, h, mask=first_rank + r < rank)
