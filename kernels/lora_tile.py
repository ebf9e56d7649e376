"""Triton: the pieces of LoRA arithmetic on one tile of rows of one adapter, for kernels that do more.

Must not know what else those kernels compute, nor how work is cut into tiles.

Semantics, for a tile of rows t of one adapter, with h summed over its splits:

    delta[t, n] = sum over r < rank of h[t, r] * B[r, n]
    z[t, n]     = y[t, n] + scale * delta[t, n]
    z[t, n]     = z[t, n] + d[n] * (z[t, n] - bias[n])         DoRA

h is rounded once to the operands' dtype. BASE, and adapters without weights at the site, have rank 0:
nothing is read for them. Rows lie along the last dimension here, columns along the first: of a product, the
matrix units want at least 16 columns but only 8 rows. One row alone is expanded by multiplying and
summing: a program then takes so many columns that no sum over ranks leaves its thread.

Legend: M rows of the tile, R rank rows of one step, N columns, P splits.
"""

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait


@triton.jit  # type: ignore[untyped-decorator]
def let_next_start(PDL: tl.constexpr) -> None:
    """Lets the next kernel begin what depends on nobody: to be called first, by every program."""
    if PDL:
        gdc_launch_dependents()


@triton.jit  # type: ignore[untyped-decorator]
def wait_for_previous(PDL: tl.constexpr) -> None:
    """Everything that kernels before wrote is there, and everything that they read is read.

    Every program of a kernel that is launched with PDL calls it at least once before it reads what a
    kernel wrote and before its first store: the next kernel's wait rests on it.
    """
    if PDL:
        gdc_wait()


@triton.jit  # type: ignore[untyped-decorator]
def site_rank(table: tl.tuple, adapter: tl.tensor, site: tl.tensor) -> tl.tensor:
    """The adapter's rank at the site; 0 for BASE. `table` is as kernels.lora_launch has it."""
    return tl.load(table[0] + adapter * table[4] + site, mask=adapter >= 0, other=0)


@triton.jit  # type: ignore[untyped-decorator]
def rank_rows(
    pool_ptr: tl.tensor,
    table: tl.tuple,
    adapter: tl.tensor,
    site: tl.tensor,
    first_rank: tl.tensor,
    rank: tl.tensor,
    n: tl.tensor,  # (N,) columns
    is_n: tl.tensor,
    tile_rows: tl.tensor,
    width: tl.tensor,
    MATRIX: tl.constexpr,  # 0: A, 1: B transposed
    TILE_R: tl.constexpr,
    IS_WHOLE: tl.constexpr,  # a tile holds TILE_R rows
    ALIGN: tl.constexpr,
) -> tl.tensor:
    """Columns n of rank rows first_rank .. first_rank + TILE_R - 1, (TILE_R, N); 0 from `rank` on."""
    r = first_rank + tl.arange(0, TILE_R)
    is_rank = r < rank
    tiles_ptr = table[2] + ((adapter * table[4] + site) * 2 + MATRIX) * table[5]
    if IS_WHOLE:
        # One address for the tile, and no need to know the rank first.
        tile_offset = tl.load(tiles_ptr + first_rank // TILE_R, mask=adapter >= 0, other=0)
        row_offset = tile_offset + (r - first_rank) * width
    else:
        row_offset = tl.load(tiles_ptr + r // tile_rows, mask=is_rank, other=0) + r % tile_rows * width
    row_offset = tl.multiple_of(row_offset, ALIGN)
    is_element = is_rank[:, None] & is_n[None, :]
    return tl.load(pool_ptr + row_offset[:, None] + n[None, :], mask=is_element, other=0.0)


@triton.jit  # type: ignore[untyped-decorator]
def of_site(h_ptr: tl.tensor, g: tl.tensor, ranks: tl.tensor, NUM_SPLITS: tl.constexpr) -> tl.tensor:
    """h_ptr at the first rank of the group's site g."""
    STRIDE: tl.constexpr = (NUM_SPLITS + 3) // 4 * 4
    return h_ptr + g * ranks * STRIDE


@triton.jit  # type: ignore[untyped-decorator]
def tile_ranks(
    h_ptr: tl.tensor,  # (T, ..., P) float32, at the site's first rank
    start: tl.tensor,
    stop: tl.tensor,
    first_rank: tl.tensor,
    rank: tl.tensor,
    stride_row: tl.tensor,
    NUM_SPLITS: tl.constexpr,
    TILE_P: tl.constexpr,
    TILE_M: tl.constexpr,
    TILE_R: tl.constexpr,
) -> tl.tensor:
    """Rows start..stop-1 of h summed over its splits, (TILE_M, TILE_R) float32; 0 from `rank` on.

    Rows and ranks lie along one dimension, so that a thread sums most of what it has read itself.
    """
    STRIDE: tl.constexpr = (NUM_SPLITS + 3) // 4 * 4
    j = tl.arange(0, TILE_M * TILE_R)
    t = start + j // TILE_R
    r = first_rank + j % TILE_R
    p = tl.arange(0, TILE_P)
    h_ptrs = h_ptr + (t.to(tl.int64) * stride_row + r * STRIDE)[:, None] + p[None, :]
    is_h = (p < NUM_SPLITS)[None, :] & ((r < rank) & (t < stop))[:, None]
    return tl.reshape(tl.sum(tl.load(h_ptrs, mask=is_h, other=0.0), 1), (TILE_M, TILE_R))


@triton.jit  # type: ignore[untyped-decorator]
def row_ranks(
    h_ptr: tl.tensor,  # (T, ..., P) float32, at the site's first rank
    t: tl.tensor,
    first_rank: tl.tensor,
    rank: tl.tensor,
    stride_row: tl.tensor,
    NUM_SPLITS: tl.constexpr,
    TILE_P: tl.constexpr,
    TILE_R: tl.constexpr,
) -> tl.tensor:
    """The splits of row t of h, (TILE_R, TILE_P) float32; nothing is read from `rank` on.

    To be called before the rank rows are read that it will be multiplied with, and summed after: the
    compiler takes the layout of what is read last, and moves the other through shared memory.
    """
    STRIDE: tl.constexpr = (NUM_SPLITS + 3) // 4 * 4
    r = first_rank + tl.arange(0, TILE_R)
    p = tl.arange(0, TILE_P)
    h_ptrs = h_ptr + t * stride_row + r[:, None] * STRIDE + p[None, :]
    is_h = (p < NUM_SPLITS)[None, :] & (r < rank)[:, None]
    return tl.load(h_ptrs, mask=is_h, other=0.0)


@triton.jit  # type: ignore[untyped-decorator]
def row_expand(h_splits: tl.tensor, b: tl.tensor, OPERAND: tl.constexpr) -> tl.tensor:
    """The sum of (R, P) float32 over P, times (R, N): (N,) float32."""
    h = tl.sum(h_splits, 1)
    return tl.sum(h.to(OPERAND).to(tl.float32)[:, None] * b.to(tl.float32), 0)


@triton.jit  # type: ignore[untyped-decorator]
def row_delta(
    b: tl.tensor,  # the site's first TILE_R rank rows at columns n
    h: tl.tensor,  # the row's splits at them
    h_ptr: tl.tensor,
    pool_ptr: tl.tensor,
    table: tl.tuple,
    adapter: tl.tensor,
    t: tl.tensor,
    site: tl.tensor,
    rank: tl.tensor,
    n: tl.tensor,
    is_n: tl.tensor,
    tile_rows: tl.tensor,
    width: tl.tensor,
    stride_row: tl.tensor,
    NUM_SPLITS: tl.constexpr,
    TILE_P: tl.constexpr,
    TILE_R: tl.constexpr,
    IS_WHOLE: tl.constexpr,
    ALIGN: tl.constexpr,
    OPERAND: tl.constexpr,
) -> tl.tensor:
    """Row t of h times B at columns n, (N,) float32, over all ranks of the site."""
    delta = row_expand(h, b, OPERAND)
    for first_rank in range(TILE_R, rank, TILE_R):
        h = row_ranks(h_ptr, t, first_rank, rank, stride_row, NUM_SPLITS, TILE_P, TILE_R)
        b = rank_rows(
            pool_ptr, table, adapter, site, first_rank, rank, n, is_n, tile_rows, width, 1, TILE_R, IS_WHOLE,
            ALIGN,
        )  # fmt: skip
        delta += row_expand(h, b, OPERAND)
    return delta


@triton.jit  # type: ignore[untyped-decorator]
def tile_expand(h: tl.tensor, b: tl.tensor, OPERAND: tl.constexpr) -> tl.tensor:
    """(M, R) float32 times (R, N): transposed, (N, M) float32."""
    return tl.dot(tl.trans(b.to(OPERAND)), tl.trans(h.to(OPERAND)), input_precision="ieee")


@triton.jit  # type: ignore[untyped-decorator]
def tile_delta(
    b: tl.tensor,  # the site's first TILE_R rank rows at columns n
    h_ptr: tl.tensor,
    pool_ptr: tl.tensor,
    table: tl.tuple,
    adapter: tl.tensor,
    start: tl.tensor,
    stop: tl.tensor,
    site: tl.tensor,
    rank: tl.tensor,
    n: tl.tensor,
    is_n: tl.tensor,
    tile_rows: tl.tensor,
    width: tl.tensor,
    stride_row: tl.tensor,
    NUM_SPLITS: tl.constexpr,
    TILE_P: tl.constexpr,
    TILE_M: tl.constexpr,
    TILE_R: tl.constexpr,
    IS_WHOLE: tl.constexpr,
    ALIGN: tl.constexpr,
    OPERAND: tl.constexpr,
) -> tl.tensor:
    """Rows start..stop-1 of h times B at columns n, (N, M) float32, over all ranks of the site.

    The first rank rows come read: whoever calls knows what else to have under way with them.
    """
    h = tile_ranks(h_ptr, start, stop, 0, rank, stride_row, NUM_SPLITS, TILE_P, TILE_M, TILE_R)
    delta = tile_expand(h, b, OPERAND)
    for first_rank in range(TILE_R, rank, TILE_R):
        b = rank_rows(
            pool_ptr, table, adapter, site, first_rank, rank, n, is_n, tile_rows, width, 1, TILE_R, IS_WHOLE,
            ALIGN,
        )  # fmt: skip
        h = tile_ranks(h_ptr, start, stop, first_rank, rank, stride_row, NUM_SPLITS, TILE_P, TILE_M, TILE_R)
        delta += tile_expand(h, b, OPERAND)
    return delta


@triton.jit  # type: ignore[untyped-decorator]
def row_shrink(x: tl.tensor, a: tl.tensor) -> tl.tensor:
    """(K,) times (R, K) transposed, (R,) float32."""
    return tl.sum(a.to(tl.float32) * x.to(tl.float32)[None, :], 1)


@triton.jit  # type: ignore[untyped-decorator]
def row_product(x: tl.tensor, a: tl.tensor, CHUNKS: tl.constexpr, OPERAND: tl.constexpr) -> tl.tensor:
    """(R, K) times (K,), (R,) float32, on the matrix units, which take no fewer rows than eight.

    All eight are the same: their mean is exact.
    """
    R: tl.constexpr = a.shape[0]
    CHUNK_K: tl.constexpr = x.shape[0] // CHUNKS
    a_CRK = tl.permute(tl.reshape(a.to(OPERAND), (R, CHUNKS, CHUNK_K)), (1, 0, 2))
    x_CK1 = tl.reshape(x.to(OPERAND), (CHUNKS, CHUNK_K))[:, :, None]
    h_CR8 = tl.dot(a_CRK, tl.broadcast_to(x_CK1, (CHUNKS, CHUNK_K, 8)), input_precision="ieee")
    return tl.sum(tl.sum(h_CR8, 0), 1) * 0.125


@triton.jit  # type: ignore[untyped-decorator]
def tile_shrink(x: tl.tensor, a: tl.tensor, CHUNKS: tl.constexpr, OPERAND: tl.constexpr) -> tl.tensor:
    """(R, K) times (K, M): (R, M) float32, summed chunk by chunk of K.

    With a chunk a warp each warp multiplies its own: so small a matrix is else multiplied by every warp.
    """
    R: tl.constexpr = a.shape[0]
    M: tl.constexpr = x.shape[1]
    CHUNK_K: tl.constexpr = x.shape[0] // CHUNKS
    a_CRK = tl.permute(tl.reshape(a.to(OPERAND), (R, CHUNKS, CHUNK_K)), (1, 0, 2))
    x_CKM = tl.reshape(x.to(OPERAND), (CHUNKS, CHUNK_K, M))
    return tl.sum(tl.dot(a_CRK, x_CKM, input_precision="ieee"), 0)


@triton.jit  # type: ignore[untyped-decorator]
def site_scale(table: tl.tuple, adapter: tl.tensor, site: tl.tensor) -> tuple[tl.tensor, tl.tensor]:
    """(scale, offset of DoRA's d in the pool or below 0) of the adapter at the site."""
    at = adapter * table[4] + site
    scale = tl.load(table[1] + at, mask=adapter >= 0, other=0.0)
    return scale, tl.load(table[3] + at, mask=adapter >= 0, other=-1)


@triton.jit  # type: ignore[untyped-decorator]
def adapted(
    y: tl.tensor,  # (N, M) or (N,) float32
    delta: tl.tensor,  # the same, not scaled
    scale: tl.tensor,
    dora_offset: tl.tensor,
    pool_ptr: tl.tensor,
    bias_ptr: tl.tensor,  # at the site's first column, read if HAS_BIAS
    n: tl.tensor,
    is_n: tl.tensor,
    HAS_BIAS: tl.constexpr,
) -> tl.tensor:
    """y + scale * delta, then DoRA where the adapter has it at the site."""
    z = y + scale * delta
    if dora_offset >= 0:
        factor = tl.load(pool_ptr + dora_offset + n, mask=is_n, other=0.0).to(tl.float32)
        bias = tl.full(n.shape, 0.0, tl.float32)
        if HAS_BIAS:
            bias = tl.load(bias_ptr + n, mask=is_n, other=0.0).to(tl.float32)
        if len(y.shape) == 2:
            z += factor[:, None] * (z - bias[:, None])
        else:
            z += factor * (z - bias)
    return z
