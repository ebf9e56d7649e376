"""Triton kernel: residual += matmul output with its LoRA delta, and the sums of squares that a norm needs.

Must not know norms' weights, nor which layer it serves. Runs on CUDA, or under Triton's interpreter.

Semantics, for row t of adapter a, column tile c and site w with h summed over its splits:

    z[t, n]      = y[t, n] + delta[t, n]          plain or DoRA, see kernels.lora_tile
    hidden[t, n] = hidden[t, n] + z[t, n]         rounded to hidden's dtype
    sums[t, c]   = sum over n in tile c of hidden[t, n]^2

Without y only the sums are written. Every row of the work list is served, base rows too. Column tiles
depend on the width alone, so a row's sums do not depend on the rest of the batch.

Legend: T rows, H hidden, C column tiles, P splits.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.lora_launch import LoraLaunch, Shrunk, power_of_two
from kernels.lora_site import LoraSite
from kernels.lora_tile import (
    adapted,
    let_next_start,
    rank_rows,
    row_delta,
    row_ranks,
    site_rank,
    site_scale,
    tile_delta,
    wait_for_previous,
)
from kernels.row_tiles import TILE_FIELDS

_TILE_FIELDS = tl.constexpr(TILE_FIELDS)


@triton.jit  # type: ignore[untyped-decorator]
def _residual_row(
    hidden_ptr: tl.tensor,
    sums_ptr: tl.tensor,
    y_ptr: tl.tensor,
    h_ptr: tl.tensor,
    pool_ptr: tl.tensor,
    table: tl.tuple,
    adapter: tl.tensor,
    row: tl.tensor,
    c: tl.tensor,
    site: tl.tensor,
    width: tl.tensor,
    num_columns: tl.tensor,
    stride_h_row: tl.tensor,
    tile_rows: tl.tensor,
    NUM_SPLITS: tl.constexpr,
    TILE_P: tl.constexpr,
    HAS_Y: tl.constexpr,
    ROW_PARTS: tl.constexpr,
    TILE_N: tl.constexpr,
    TILE_R: tl.constexpr,
    IS_WHOLE: tl.constexpr,
    ALIGN: tl.constexpr,
    OPERAND: tl.constexpr,
    PDL: tl.constexpr,
) -> None:
    n = c * TILE_N + tl.arange(0, ROW_PARTS * TILE_N)
    is_n = n < width
    t = row.to(tl.int64)
    at = t * width + n
    if HAS_Y:
        rank = site_rank(table, adapter, site)
        scale, dora_offset = site_scale(table, adapter, site)
    wait_for_previous(PDL)
    if HAS_Y:
        h = row_ranks(h_ptr, t, 0, rank, stride_h_row, NUM_SPLITS, TILE_P, TILE_R)
        b = rank_rows(
            pool_ptr, table, adapter, site, 0, rank, n, is_n, tile_rows, width, 1, TILE_R, IS_WHOLE, ALIGN,
        )  # fmt: skip
    hidden = tl.load(hidden_ptr + at, mask=is_n, other=0.0)
    if HAS_Y:
        y = tl.load(y_ptr + at, mask=is_n, other=0.0).to(tl.float32)
        delta = row_delta(
            b, h, h_ptr, pool_ptr, table, adapter, t, site, rank, n, is_n, tile_rows, width, stride_h_row,
            NUM_SPLITS, TILE_P, TILE_R, IS_WHOLE, ALIGN, OPERAND,
        )  # fmt: skip
        z = adapted(y, delta, scale, dora_offset, pool_ptr, y_ptr, n, is_n, False)
        hidden = (hidden.to(tl.float32) + z).to(hidden_ptr.dtype.element_ty)
        tl.store(hidden_ptr + at, hidden, mask=is_n)
    wide = tl.reshape(hidden.to(tl.float32), (ROW_PARTS, TILE_N))
    parts = c + tl.arange(0, ROW_PARTS)
    tl.store(sums_ptr + t * num_columns + parts, tl.sum(wide * wide, 1), mask=parts < num_columns)


@triton.jit  # type: ignore[untyped-decorator]
def _residual_tile(
    hidden_ptr: tl.tensor,
    sums_ptr: tl.tensor,
    y_ptr: tl.tensor,
    h_ptr: tl.tensor,
    pool_ptr: tl.tensor,
    table: tl.tuple,
    adapter: tl.tensor,
    start: tl.tensor,
    stop: tl.tensor,
    c: tl.tensor,
    site: tl.tensor,
    width: tl.tensor,
    num_columns: tl.tensor,
    stride_h_row: tl.tensor,
    tile_rows: tl.tensor,
    NUM_SPLITS: tl.constexpr,
    TILE_P: tl.constexpr,
    HAS_Y: tl.constexpr,
    TILE_M: tl.constexpr,
    TILE_N: tl.constexpr,
    TILE_R: tl.constexpr,
    IS_WHOLE: tl.constexpr,
    ALIGN: tl.constexpr,
    OPERAND: tl.constexpr,
    PDL: tl.constexpr,
) -> None:
    n = c * TILE_N + tl.arange(0, TILE_N)
    is_n = n < width
    t = start + tl.arange(0, TILE_M).to(tl.int64)
    is_row = t < stop
    is_element = is_n[:, None] & is_row[None, :]
    at = t[None, :] * width + n[:, None]
    if HAS_Y:
        rank = site_rank(table, adapter, site)
        scale, dora_offset = site_scale(table, adapter, site)
        b = rank_rows(
            pool_ptr, table, adapter, site, 0, rank, n, is_n, tile_rows, width, 1, TILE_R, IS_WHOLE, ALIGN,
        )  # fmt: skip
    wait_for_previous(PDL)
    hidden = tl.load(hidden_ptr + at, mask=is_element, other=0.0)
    if HAS_Y:
        y = tl.load(y_ptr + at, mask=is_element, other=0.0)
        delta = tile_delta(
            b, h_ptr, pool_ptr, table, adapter, start, stop, site, rank, n, is_n, tile_rows, width,
            stride_h_row, NUM_SPLITS, TILE_P, TILE_M, TILE_R, IS_WHOLE, ALIGN, OPERAND,
        )  # fmt: skip
        z = adapted(y.to(tl.float32), delta, scale, dora_offset, pool_ptr, y_ptr, n, is_n, False)
        hidden = (hidden.to(tl.float32) + z).to(hidden_ptr.dtype.element_ty)
        tl.store(hidden_ptr + at, hidden, mask=is_element)
    wide = hidden.to(tl.float32)
    tl.store(sums_ptr + t * num_columns + c, tl.sum(wide * wide, 0), mask=is_row)


@triton.jit(do_not_specialize=["site"])  # type: ignore[untyped-decorator]
def residual_expand_kernel(
    hidden_ptr: tl.tensor,  # (T, H)
    sums_ptr: tl.tensor,  # (T, C) float32
    y_ptr: tl.tensor,  # (T, H), read if HAS_Y
    h_ptr: tl.tensor,  # (T, ranks, P) float32
    pool_ptr: tl.tensor,
    row_tiles_ptr: tl.tensor,  # (W, 3)
    num_tiles_ptr: tl.tensor,  # (1,)
    ranks_ptr: tl.tensor,  # (A, num_sites)
    scales_ptr: tl.tensor,  # (A, num_sites) float32
    offsets_ptr: tl.tensor,  # (A, num_sites, 2, max_tiles) int64
    dora_offsets_ptr: tl.tensor,  # (A, num_sites) int64
    num_sites: tl.tensor,
    max_tiles: tl.tensor,
    site: tl.tensor,
    width: tl.tensor,
    stride_h_row: tl.tensor,
    tile_rows: tl.tensor,
    NUM_SPLITS: tl.constexpr,
    TILE_P: tl.constexpr,
    HAS_Y: tl.constexpr,
    ROW_PARTS: tl.constexpr,
    TILE_M: tl.constexpr,
    TILE_N: tl.constexpr,
    TILE_R: tl.constexpr,
    IS_WHOLE: tl.constexpr,
    ALIGN: tl.constexpr,
    OPERAND: tl.constexpr,
    PDL: tl.constexpr,
) -> None:
    """Programs take turns in the items: a row tile and TILE_N columns each."""
    let_next_start(PDL)
    table = (ranks_ptr, scales_ptr, offsets_ptr, dora_offsets_ptr, num_sites, max_tiles)
    num_columns = tl.cdiv(width, TILE_N)
    num_items = tl.load(num_tiles_ptr) * num_columns
    for item in range(tl.program_id(0), num_items, tl.num_programs(0)):
        tile_ptr = row_tiles_ptr + item // num_columns * _TILE_FIELDS
        c = item % num_columns
        adapter = tl.load(tile_ptr).to(tl.int64)
        start = tl.load(tile_ptr + 1)
        stop = tl.load(tile_ptr + 2)
        if stop - start == 1:
            if c % ROW_PARTS == 0:
                _residual_row(
                    hidden_ptr, sums_ptr, y_ptr, h_ptr, pool_ptr, table, adapter, start, c, site, width,
                    num_columns, stride_h_row, tile_rows, NUM_SPLITS, TILE_P, HAS_Y, ROW_PARTS, TILE_N,
                    TILE_R, IS_WHOLE, ALIGN, OPERAND, PDL,
                )  # fmt: skip
        else:
            _residual_tile(
                hidden_ptr, sums_ptr, y_ptr, h_ptr, pool_ptr, table, adapter, start, stop, c, site, width,
                num_columns, stride_h_row, tile_rows, NUM_SPLITS, TILE_P, HAS_Y, TILE_M, TILE_N, TILE_R,
                IS_WHOLE, ALIGN, OPERAND, PDL,
            )  # fmt: skip
    # A program without work waits too.
    wait_for_previous(PDL)


def residual_expand_(
    launch: LoraLaunch, hidden_TH: Tensor, y_TH: Tensor, shrunk: Shrunk, site: LoraSite
) -> Tensor:
    """Adds y_TH with its delta at `site` to hidden_TH in place; the sums of squares [T, C] in float32.

    float32, bfloat16 or float16, contiguous.
    """
    return _launch(launch, hidden_TH, y_TH, shrunk, site)


def square_sums(launch: LoraLaunch, hidden_TH: Tensor) -> Tensor:
    """The sums of squares [T, C] alone, of rows to which nothing is added."""
    nothing = Shrunk(hidden_TH[:, :, None], 1)
    return _launch(launch, hidden_TH, None, nothing, launch.table.sites[0])


def _launch(
    launch: LoraLaunch, hidden_TH: Tensor, y_TH: Tensor | None, shrunk: Shrunk, site: LoraSite
) -> Tensor:
    num_rows, width = hidden_TH.shape
    table, tiles, row_tiles = launch.table, launch.tiles, launch.row_tiles
    num_columns = triton.cdiv(width, tiles.residual_columns)
    sums_TC = torch.empty((num_rows, num_columns), dtype=torch.float32, device=hidden_TH.device)
    residual_expand_kernel[launch.grid(num_columns)](
        hidden_TH,
        sums_TC,
        hidden_TH if y_TH is None else y_TH,
        shrunk.h_TXP,
        table.pool_E,
        row_tiles.tiles_W3,
        row_tiles.num_tiles_1,
        *launch.table_arguments(),
        site.index,
        width,
        shrunk.h_TXP.stride(0),
        table.b_rows[site.index],
        NUM_SPLITS=shrunk.num_splits,
        TILE_P=power_of_two(shrunk.num_splits),
        HAS_Y=y_TH is not None,
        ROW_PARTS=tiles.row_parts(tiles.residual_columns, tiles.residual_warps),
        TILE_M=row_tiles.tile_rows,
        TILE_N=tiles.residual_columns,
        **launch.constants([site], hidden_TH),
        **launch.options(tiles.residual_warps, tiles.max_registers),
    )
    return sums_TC
