"""Triton kernel: LoRA deltas of gate and up, then SiLU(gate) * up.

Must not know layers, nor the site that reads the result. Runs on CUDA, or under Triton's interpreter.

Semantics, for row t of adapter a, gate|up side by side in y:

    gate, up = y[t] with the deltas of their sites added, plain or DoRA, see kernels.lora_tile
    x[t, f]  = gate[f] / (1 + exp(-gate[f])) * up[f]                              rounded once

Every row of the work list gets its x, base rows too. Source: Shazeer 2020 (SwiGLU).

Legend: T rows, F inner features, P splits.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.lora_launch import LoraLaunch, Shrunk, power_of_two
from kernels.lora_site import LoraSite
from kernels.lora_tile import (
    adapted,
    let_next_start,
    of_site,
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
def _silu_row(
    x_ptr: tl.tensor,
    y_ptr: tl.tensor,
    h_ptr: tl.tensor,
    pool_ptr: tl.tensor,
    table: tl.tuple,
    adapter: tl.tensor,
    row: tl.tensor,
    c: tl.tensor,
    gate_site: tl.tensor,
    width: tl.tensor,
    stride_h_row: tl.tensor,
    ranks: tl.tensor,
    tile_rows: tl.tensor,
    NUM_SPLITS: tl.constexpr,
    TILE_P: tl.constexpr,
    ROW_PARTS: tl.constexpr,
    TILE_F: tl.constexpr,
    TILE_R: tl.constexpr,
    IS_WHOLE: tl.constexpr,
    ALIGN: tl.constexpr,
    OPERAND: tl.constexpr,
    PDL: tl.constexpr,
) -> None:
    f = c * TILE_F + tl.arange(0, ROW_PARTS * TILE_F)
    is_f = f < width
    t = row.to(tl.int64)
    gate_rank = site_rank(table, adapter, gate_site)
    up_rank = site_rank(table, adapter, gate_site + 1)
    gate_scale, gate_dora = site_scale(table, adapter, gate_site)
    up_scale, up_dora = site_scale(table, adapter, gate_site + 1)
    up_h_ptr = of_site(h_ptr, 1, ranks, NUM_SPLITS)
    wait_for_previous(PDL)
    h_gate = row_ranks(h_ptr, t, 0, gate_rank, stride_h_row, NUM_SPLITS, TILE_P, TILE_R)
    h_up = row_ranks(up_h_ptr, t, 0, up_rank, stride_h_row, NUM_SPLITS, TILE_P, TILE_R)
    b_gate = rank_rows(
        pool_ptr, table, adapter, gate_site, 0, gate_rank, f, is_f, tile_rows, width, 1, TILE_R, IS_WHOLE,
        ALIGN,
    )  # fmt: skip
    y_ptrs = y_ptr + t * 2 * width + f
    gate = tl.load(y_ptrs, mask=is_f, other=0.0).to(tl.float32)
    up = tl.load(y_ptrs + width, mask=is_f, other=0.0).to(tl.float32)
    delta = row_delta(
        b_gate, h_gate, h_ptr, pool_ptr, table, adapter, t, gate_site, gate_rank, f, is_f, tile_rows, width,
        stride_h_row, NUM_SPLITS, TILE_P, TILE_R, IS_WHOLE, ALIGN, OPERAND,
    )  # fmt: skip
    gate = adapted(gate, delta, gate_scale, gate_dora, pool_ptr, y_ptr, f, is_f, False)
    # What up needs is read now and not before: more registers a thread would mean fewer programs at once.
    tl.debug_barrier()
    b_up = rank_rows(
        pool_ptr, table, adapter, gate_site + 1, 0, up_rank, f, is_f, tile_rows, width, 1, TILE_R, IS_WHOLE,
        ALIGN,
    )  # fmt: skip
    delta = row_delta(
        b_up, h_up, up_h_ptr, pool_ptr, table, adapter, t, gate_site + 1, up_rank, f, is_f, tile_rows, width,
        stride_h_row, NUM_SPLITS, TILE_P, TILE_R, IS_WHOLE, ALIGN, OPERAND,
    )  # fmt: skip
    up = adapted(up, delta, up_scale, up_dora, pool_ptr, y_ptr, f, is_f, False)
    x = (gate / (1.0 + tl.exp(-gate)) * up).to(x_ptr.dtype.element_ty)
    tl.store(x_ptr + t * width + f, x, mask=is_f)


@triton.jit  # type: ignore[untyped-decorator]
def _silu_tile(
    x_ptr: tl.tensor,
    y_ptr: tl.tensor,
    h_ptr: tl.tensor,
    pool_ptr: tl.tensor,
    table: tl.tuple,
    adapter: tl.tensor,
    start: tl.tensor,
    stop: tl.tensor,
    c: tl.tensor,
    gate_site: tl.tensor,
    width: tl.tensor,
    stride_h_row: tl.tensor,
    ranks: tl.tensor,
    tile_rows: tl.tensor,
    NUM_SPLITS: tl.constexpr,
    TILE_P: tl.constexpr,
    TILE_M: tl.constexpr,
    TILE_F: tl.constexpr,
    TILE_R: tl.constexpr,
    IS_WHOLE: tl.constexpr,
    ALIGN: tl.constexpr,
    OPERAND: tl.constexpr,
    PDL: tl.constexpr,
) -> None:
    f = c * TILE_F + tl.arange(0, TILE_F)
    is_f = f < width
    t = start + tl.arange(0, TILE_M).to(tl.int64)
    is_element = is_f[:, None] & (t < stop)[None, :]
    gate_rank = site_rank(table, adapter, gate_site)
    up_rank = site_rank(table, adapter, gate_site + 1)
    gate_scale, gate_dora = site_scale(table, adapter, gate_site)
    up_scale, up_dora = site_scale(table, adapter, gate_site + 1)
    b_gate = rank_rows(
        pool_ptr, table, adapter, gate_site, 0, gate_rank, f, is_f, tile_rows, width, 1, TILE_R, IS_WHOLE,
        ALIGN,
    )  # fmt: skip
    b_up = rank_rows(
        pool_ptr, table, adapter, gate_site + 1, 0, up_rank, f, is_f, tile_rows, width, 1, TILE_R, IS_WHOLE,
        ALIGN,
    )  # fmt: skip
    wait_for_previous(PDL)
    y_ptrs = y_ptr + t[None, :] * 2 * width + f[:, None]
    gate = tl.load(y_ptrs, mask=is_element, other=0.0)
    up = tl.load(y_ptrs + width, mask=is_element, other=0.0)
    delta = tile_delta(
        b_gate, h_ptr, pool_ptr, table, adapter, start, stop, gate_site, gate_rank, f, is_f, tile_rows, width,
        stride_h_row, NUM_SPLITS, TILE_P, TILE_M, TILE_R, IS_WHOLE, ALIGN, OPERAND,
    )  # fmt: skip
    gate = adapted(gate.to(tl.float32), delta, gate_scale, gate_dora, pool_ptr, y_ptr, f, is_f, False)
    delta = tile_delta(
        b_up, of_site(h_ptr, 1, ranks, NUM_SPLITS), pool_ptr, table, adapter, start, stop, gate_site + 1,
        up_rank, f, is_f, tile_rows, width, stride_h_row, NUM_SPLITS, TILE_P, TILE_M, TILE_R, IS_WHOLE, ALIGN,
        OPERAND,
    )  # fmt: skip
    up = adapted(up.to(tl.float32), delta, up_scale, up_dora, pool_ptr, y_ptr, f, is_f, False)
    x = (gate / (1.0 + tl.exp(-gate)) * up).to(x_ptr.dtype.element_ty)
    tl.store(x_ptr + t[None, :] * width + f[:, None], x, mask=is_element)


@triton.jit(do_not_specialize=["gate_site"])  # type: ignore[untyped-decorator]
def silu_expand_kernel(
    x_ptr: tl.tensor,  # (T, F)
    y_ptr: tl.tensor,  # (T, 2 * F)
    h_ptr: tl.tensor,  # (T, 2 * ranks, P) float32
    pool_ptr: tl.tensor,
    row_tiles_ptr: tl.tensor,  # (W, 3)
    num_tiles_ptr: tl.tensor,  # (1,)
    ranks_ptr: tl.tensor,  # (A, num_sites)
    scales_ptr: tl.tensor,  # (A, num_sites) float32
    offsets_ptr: tl.tensor,  # (A, num_sites, 2, max_tiles) int64
    dora_offsets_ptr: tl.tensor,  # (A, num_sites) int64
    num_sites: tl.tensor,
    max_tiles: tl.tensor,
    gate_site: tl.tensor,  # up's follows
    width: tl.tensor,
    stride_h_row: tl.tensor,
    ranks: tl.tensor,
    tile_rows: tl.tensor,
    NUM_SPLITS: tl.constexpr,
    TILE_P: tl.constexpr,
    ROW_PARTS: tl.constexpr,
    TILE_M: tl.constexpr,
    TILE_F: tl.constexpr,
    TILE_R: tl.constexpr,
    IS_WHOLE: tl.constexpr,
    ALIGN: tl.constexpr,
    OPERAND: tl.constexpr,
    PDL: tl.constexpr,
) -> None:
    """Programs take turns in the items: a row tile and TILE_F features each."""
    let_next_start(PDL)
    table = (ranks_ptr, scales_ptr, offsets_ptr, dora_offsets_ptr, num_sites, max_tiles)
    num_parts = tl.cdiv(width, TILE_F)
    num_items = tl.load(num_tiles_ptr) * num_parts
    for item in range(tl.program_id(0), num_items, tl.num_programs(0)):
        tile_ptr = row_tiles_ptr + item // num_parts * _TILE_FIELDS
        adapter = tl.load(tile_ptr).to(tl.int64)
        start = tl.load(tile_ptr + 1)
        stop = tl.load(tile_ptr + 2)
        c = item % num_parts
        if stop - start == 1:
            if c % ROW_PARTS == 0:
                _silu_row(
                    x_ptr, y_ptr, h_ptr, pool_ptr, table, adapter, start, c, gate_site, width, stride_h_row,
                    ranks, tile_rows, NUM_SPLITS, TILE_P, ROW_PARTS, TILE_F, TILE_R, IS_WHOLE, ALIGN, OPERAND,
                    PDL,
                )  # fmt: skip
        else:
            _silu_tile(
                x_ptr, y_ptr, h_ptr, pool_ptr, table, adapter, start, stop, c, gate_site, width, stride_h_row,
                ranks, tile_rows, NUM_SPLITS, TILE_P, TILE_M, TILE_F, TILE_R, IS_WHOLE, ALIGN, OPERAND, PDL,
            )  # fmt: skip
    # A program without work waits too.
    wait_for_previous(PDL)


def silu_expand(launch: LoraLaunch, y_TX: Tensor, shrunk: Shrunk, sites: Sequence[LoraSite]) -> Tensor:
    """x [T, F] in y's dtype.

    `sites` are gate and up, with consecutive indices. float32, bfloat16 or float16, contiguous.
    """
    num_rows, width = y_TX.shape[0], y_TX.shape[1] // 2
    table, tiles, row_tiles = launch.table, launch.tiles, launch.row_tiles
    x_TF = torch.empty((num_rows, width), dtype=y_TX.dtype, device=y_TX.device)
    silu_expand_kernel[launch.grid(triton.cdiv(width, tiles.silu_columns))](
        x_TF,
        y_TX,
        shrunk.h_TXP,
        table.pool_E,
        row_tiles.tiles_W3,
        row_tiles.num_tiles_1,
        *launch.table_arguments(),
        sites[0].index,
        width,
        shrunk.h_TXP.stride(0),
        launch.rank_capacity,
        table.b_rows[sites[0].index],
        NUM_SPLITS=shrunk.num_splits,
        TILE_P=power_of_two(shrunk.num_splits),
        ROW_PARTS=tiles.row_parts(tiles.silu_columns, tiles.silu_warps),
        TILE_M=row_tiles.tile_rows,
        TILE_F=tiles.silu_columns,
        **launch.constants(sites, y_TX),
        **launch.options(tiles.silu_warps, tiles.max_registers),
    )
    return x_TF
