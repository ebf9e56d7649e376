"""Triton: a tile of some rows of one split through the norm, and A of every site, all at once.

Must not know the work list. What is computed: kernels.norm_shrink.
"""

import triton
import triton.language as tl

from kernels.lora_tile import rank_rows, site_rank, tile_shrink, wait_for_previous


@triton.jit  # type: ignore[untyped-decorator]
def _shrink_site(
    x: tl.tensor,
    a: tl.tensor,  # the site's first TILE_R rank rows at k
    h_ptr: tl.tensor,  # at the site's first rank
    pool_ptr: tl.tensor,
    table: tl.tuple,
    adapter: tl.tensor,
    site: tl.tensor,
    rank: tl.tensor,
    t: tl.tensor,
    is_row: tl.tensor,
    k: tl.tensor,
    is_k: tl.tensor,
    p: tl.tensor,
    stride_h_rank: tl.tensor,
    stride_h_row: tl.tensor,
    tile_rows: tl.tensor,
    width: tl.tensor,
    CHUNKS: tl.constexpr,
    TILE_R: tl.constexpr,
    IS_WHOLE: tl.constexpr,
    ALIGN: tl.constexpr,
    OPERAND: tl.constexpr,
) -> None:
    r = tl.arange(0, TILE_R)
    h_ptrs = h_ptr + (r * stride_h_rank)[:, None] + t[None, :] * stride_h_row + p
    tl.store(h_ptrs, tile_shrink(x, a, CHUNKS, OPERAND), mask=(r < rank)[:, None] & is_row[None, :])
    for first_rank in range(TILE_R, rank, TILE_R):
        a = rank_rows(
            pool_ptr, table, adapter, site, first_rank, rank, k, is_k, tile_rows, width, 0, TILE_R, IS_WHOLE,
            ALIGN,
        )  # fmt: skip
        is_rank = first_rank + r < rank
        tl.store(
            h_ptrs + first_rank * stride_h_rank, tile_shrink(x, a, CHUNKS, OPERAND),
            mask=is_rank[:, None] & is_row[None, :],
        )  # fmt: skip


@triton.jit  # type: ignore[untyped-decorator]
def norm_tile(
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
    p: tl.tensor,
    first_site: tl.tensor,
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
    CHUNKS: tl.constexpr,
    TILE_R: tl.constexpr,
    IS_WHOLE: tl.constexpr,
    ALIGN: tl.constexpr,
    OPERAND: tl.constexpr,
    PDL: tl.constexpr,
) -> None:
    """Rows start..stop-1, split p, every site."""
    k = p * SPLIT_K + tl.arange(0, SPLIT_K)
    is_k = k < width
    # Of every site before the wait: they depend on no kernel.
    site_ranks = ()
    site_rows = ()
    for g in tl.static_range(GROUP_SITES):
        rank = site_rank(table, adapter, first_site + g)
        a = rank_rows(
            pool_ptr, table, adapter, first_site + g, 0, rank, k, is_k, tile_rows, width, 0, TILE_R, IS_WHOLE,
            ALIGN,
        )  # fmt: skip
        # Triton knows no unpacking.
        site_ranks = site_ranks + (rank,)  # type: ignore[assignment]  # noqa: RUF005
        site_rows = site_rows + (a,)  # type: ignore[assignment]  # noqa: RUF005
    t = start + tl.arange(0, TILE_M).to(tl.int64)
    is_row = t < stop
    at = t[None, :] * width + k[:, None]
    is_element = is_k[:, None] & is_row[None, :]
    if HAS_NORM:
        weight = tl.load(weight_ptr + k, mask=is_k, other=0.0).to(tl.float32)
    wait_for_previous(PDL)
    x = tl.load(hidden_ptr + at, mask=is_element, other=0.0)
    if HAS_NORM:
        c = tl.arange(0, TILE_C)
        is_sum = (c < NUM_SUMS)[:, None] & is_row[None, :]
        sums = tl.load(sums_ptr + t[None, :] * NUM_SUMS + c[:, None], mask=is_sum, other=0.0)
        scale = tl.rsqrt(tl.sum(sums, 0) / width + eps)
        x = (x.to(tl.float32) * scale[None, :] * weight[:, None]).to(x_ptr.dtype.element_ty)
        tl.store(x_ptr + at, x, mask=is_element)
    for g in tl.static_range(GROUP_SITES):
        _shrink_site(
            x, site_rows[g], h_ptr + g * ranks * stride_h_rank, pool_ptr, table, adapter, first_site + g,
            site_ranks[g], t, is_row, k, is_k, p, stride_h_rank, stride_h_row, tile_rows, width, CHUNKS,
            TILE_R, IS_WHOLE, ALIGN, OPERAND,
        )  # fmt: skip
