"""Triton kernel: y += s h B, then DoRA, for every row of a mixed batch, B read in place.

Must not know x or A.

Semantics, for row t of adapter a at site g with h summed over its splits, column n of the site:

    z    = y[t, n] + s(a, g) * sum over r < rank(a, g) of h[t, g, r] * B[a, g][r, n]
    y[t, n] = z + d[n] * (z - bias[n])        d = 0 unless DoRA

Base rows, and rows of adapters without weights at g, are neither read nor written. Each element of y
belongs to one program: no atomics, the same result every time.
"""

import triton
import triton.language as tl

from kernels.site_group import SITE_FIELDS

_SITE_FIELDS = tl.constexpr(SITE_FIELDS)


@triton.jit  # type: ignore[untyped-decorator]
def expand_kernel(
    y_ptr: tl.tensor,  # (T, N)
    h_ptr: tl.tensor,  # (NUM_SPLITS, T, G * RANKS) float32
    pool_ptr: tl.tensor,
    bias_ptr: tl.tensor,  # (N,), read if HAS_BIAS
    row_tiles_ptr: tl.tensor,  # (W, 3) int32
    sites_ptr: tl.tensor,  # (G, 5) int32
    columns_ptr: tl.tensor,  # (C, 2) int32
    ranks_ptr: tl.tensor,  # (A, num_sites) int32
    scales_ptr: tl.tensor,  # (A, num_sites) float32
    offsets_ptr: tl.tensor,  # (A, num_sites, 2, max_tiles) int64
    dora_offsets_ptr: tl.tensor,  # (A, num_sites) int64
    stride_y: tl.tensor,
    stride_h_split: tl.tensor,
    stride_h_row: tl.tensor,
    num_sites: tl.tensor,
    max_tiles: tl.tensor,
    num_columns: tl.tensor,
    NUM_SITES: tl.constexpr,
    RANKS: tl.constexpr,
    NUM_SPLITS: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    TILE_M: tl.constexpr,
    TILE_N: tl.constexpr,
    TILE_R: tl.constexpr,
    ALIGN: tl.constexpr,
    OPERAND: tl.constexpr,
) -> None:
    """Programs of a row tile take turns in its column tiles: TILE_N columns of one site, every rank.

    Where the group is one site that the adapter has no weights for, they end at once.
    """
    w = tl.program_id(0)
    adapter = tl.load(row_tiles_ptr + w * 3).to(tl.int64)
    first_column = tl.program_id(1)
    if NUM_SITES == 1:
        at = adapter * num_sites + tl.load(sites_ptr)
        rank = tl.load(ranks_ptr + at, mask=adapter >= 0, other=0)
        first_column = tl.where(rank > 0, first_column, num_columns)
    elif adapter < 0:
        first_column = num_columns
    for c in range(first_column, num_columns, tl.num_programs(1)):
        g = tl.load(columns_ptr + c * 2)
        site = tl.load(sites_ptr + g * _SITE_FIELDS)
        rank = tl.load(ranks_ptr + adapter * num_sites + site)
        if rank > 0:
            t = tl.load(row_tiles_ptr + w * 3 + 1) + tl.arange(0, TILE_M).to(tl.int64)
            is_row = t < tl.load(row_tiles_ptr + w * 3 + 2)
            tile_rows = tl.load(sites_ptr + g * _SITE_FIELDS + 2)
            width = tl.load(sites_ptr + g * _SITE_FIELDS + 3)
            n = tl.load(columns_ptr + c * 2 + 1) + tl.arange(0, TILE_N)
            is_n = n < width
            tiles_ptr = offsets_ptr + ((adapter * num_sites + site) * 2 + 1) * max_tiles
            delta = tl.full((TILE_M, TILE_N), 0.0, tl.float32)
            for first_rank in range(0, rank, TILE_R):
                r = first_rank + tl.arange(0, TILE_R)
                is_rank = r < rank
                h_ptrs = h_ptr + t[:, None] * stride_h_row + (g * RANKS + r)[None, :]
                is_h = is_row[:, None] & is_rank[None, :]
                h = tl.load(h_ptrs, mask=is_h, other=0.0)
                for p in tl.static_range(1, NUM_SPLITS):
                    h += tl.load(h_ptrs + p * stride_h_split, mask=is_h, other=0.0)
                tile_offset = tl.load(tiles_ptr + r // tile_rows, mask=is_rank, other=0)
                row_offset = tl.multiple_of(tile_offset + r % tile_rows * width, ALIGN)
                b = tl.load(
                    pool_ptr + row_offset[:, None] + n[None, :],
                    mask=is_rank[:, None] & is_n[None, :],
                    other=0.0,
                )
                delta = tl.dot(h.to(OPERAND), b.to(OPERAND), delta, input_precision="ieee")
            column = tl.load(sites_ptr + g * _SITE_FIELDS + 4) + n
            y_ptrs = y_ptr + t[:, None] * stride_y + column[None, :]
            is_y = is_row[:, None] & is_n[None, :]
            z = tl.load(y_ptrs, mask=is_y, other=0.0).to(tl.float32)
            z += tl.load(scales_ptr + adapter * num_sites + site) * delta
            dora_offset = tl.load(dora_offsets_ptr + adapter * num_sites + site)
            if dora_offset >= 0:
                factor = tl.load(pool_ptr + dora_offset + n, mask=is_n, other=0.0).to(tl.float32)
                base = z
                if HAS_BIAS:
                    base -= tl.load(bias_ptr + column, mask=is_n, other=0.0).to(tl.float32)[None, :]
                z += factor[None, :] * base
            tl.store(y_ptrs, z.to(y_ptr.dtype.element_ty), mask=is_y)
