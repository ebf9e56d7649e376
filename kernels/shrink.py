"""Triton kernels: h = x A^T for every row of a mixed batch, A read in place from the pool.

Must not know scales, B or y.

Semantics, for row t of adapter a, site g of the group and split p of the K in features:

    h[p, t, g, r] = sum over k in split p of x[t, k] * A[a, g][r, k]        r < rank(a, g)

Nothing is written at ranks past the adapter's own, nor for base rows. The splits depend on K alone,
so a row's sums do not depend on the rest of the batch.
"""

import triton
import triton.language as tl

from kernels.site_group import SITE_FIELDS

_SITE_FIELDS = tl.constexpr(SITE_FIELDS)


@triton.jit  # type: ignore[untyped-decorator]
def shrink_kernel(
    h_ptr: tl.tensor,  # (P, T, G * RANKS) float32
    x_ptr: tl.tensor,  # (T, K)
    pool_ptr: tl.tensor,
    row_tiles_ptr: tl.tensor,  # (W, 3) int32
    sites_ptr: tl.tensor,  # (G, 5) int32
    ranks_ptr: tl.tensor,  # (N, num_sites) int32
    offsets_ptr: tl.tensor,  # (N, num_sites, 2, max_tiles) int64
    K: tl.tensor,
    stride_x: tl.tensor,
    stride_h_split: tl.tensor,
    stride_h_row: tl.tensor,
    num_sites: tl.tensor,
    max_tiles: tl.tensor,
    split_features: tl.tensor,
    RANKS: tl.constexpr,
    TILE_M: tl.constexpr,
    TILE_K: tl.constexpr,
    TILE_R: tl.constexpr,
    ALIGN: tl.constexpr,
    OPERAND: tl.constexpr,
) -> None:
    """One program: a row tile, TILE_R rank rows of one site, one split of K."""
    w = tl.program_id(0)
    g = tl.program_id(1) // (RANKS // TILE_R)
    first_rank = tl.program_id(1) % (RANKS // TILE_R) * TILE_R
    adapter = tl.load(row_tiles_ptr + w * 3).to(tl.int64)
    if adapter >= 0:
        site = tl.load(sites_ptr + g * _SITE_FIELDS)
        rank = tl.load(ranks_ptr + adapter * num_sites + site)
        if first_rank < rank:
            t = tl.load(row_tiles_ptr + w * 3 + 1) + tl.arange(0, TILE_M).to(tl.int64)
            is_row = t < tl.load(row_tiles_ptr + w * 3 + 2)
            r = first_rank + tl.arange(0, TILE_R)
            is_rank = r < rank
            tile_rows = tl.load(sites_ptr + g * _SITE_FIELDS + 1)
            tiles_ptr = offsets_ptr + (adapter * num_sites + site) * 2 * max_tiles
            tile_offset = tl.load(tiles_ptr + r // tile_rows, mask=is_rank, other=0)
            row_offset = tl.multiple_of(tile_offset + r % tile_rows * K, ALIGN)
            first = tl.program_id(2) * split_features
            h = tl.full((TILE_M, TILE_R), 0.0, tl.float32)
            for start in range(first, tl.minimum(first + split_features, K), TILE_K):
                k = start + tl.arange(0, TILE_K)
                is_k = k < K
                x = tl.load(
                    x_ptr + t[:, None] * stride_x + k[None, :],
                    mask=is_row[:, None] & is_k[None, :],
                    other=0.0,
                )
                a = tl.load(
                    pool_ptr + row_offset[:, None] + k[None, :],
                    mask=is_rank[:, None] & is_k[None, :],
                    other=0.0,
                )
                h = tl.dot(x.to(OPERAND), tl.trans(a.to(OPERAND)), h, input_precision="ieee")
            h_ptrs = h_ptr + tl.program_id(2) * stride_h_split + t[:, None] * stride_h_row
            h_ptrs += g * RANKS + r[None, :]
            tl.store(h_ptrs, h, mask=is_row[:, None] & is_rank[None, :])


@triton.jit  # type: ignore[untyped-decorator]
def shrink_embedding_kernel(
    h_ptr: tl.tensor,  # (T, RANKS) float32
    token_ids_ptr: tl.tensor,  # (T,) int64
    pool_ptr: tl.tensor,
    row_tiles_ptr: tl.tensor,
    sites_ptr: tl.tensor,
    ranks_ptr: tl.tensor,
    offsets_ptr: tl.tensor,
    vocabulary: tl.tensor,
    num_sites: tl.tensor,
    max_tiles: tl.tensor,
    RANKS: tl.constexpr,
    TILE_M: tl.constexpr,
) -> None:
    """h[t, r] = A[r, token_ids[t]]; one program: a row tile, every rank."""
    w = tl.program_id(0)
    adapter = tl.load(row_tiles_ptr + w * 3).to(tl.int64)
    if adapter >= 0:
        site = tl.load(sites_ptr)
        rank = tl.load(ranks_ptr + adapter * num_sites + site)
        t = tl.load(row_tiles_ptr + w * 3 + 1) + tl.arange(0, TILE_M).to(tl.int64)
        is_row = t < tl.load(row_tiles_ptr + w * 3 + 2)
        r = tl.arange(0, RANKS)
        is_live = is_row[:, None] & (r < rank)[None, :]
        tile_rows = tl.load(sites_ptr + 1)
        tiles_ptr = offsets_ptr + (adapter * num_sites + site) * 2 * max_tiles
        tile_offset = tl.load(tiles_ptr + r // tile_rows, mask=r < rank, other=0)
        row_offset = tile_offset + r % tile_rows * vocabulary
        token = tl.load(token_ids_ptr + t, mask=is_row, other=0)
        h = tl.load(pool_ptr + row_offset[None, :] + token[:, None], mask=is_live, other=0.0)
        tl.store(h_ptr + t[:, None] * RANKS + r[None, :], h.to(tl.float32), mask=is_live)
