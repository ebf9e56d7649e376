"""Triton kernel: LoRA deltas of gate and up, SiLU(gate) * up, and A of the down site that reads it.

Must not know layers. Runs on CUDA, or under Triton's interpreter.

Semantics, for row t of adapter a and split p of the F features, gate|up side by side in y:

    gate, up   = y[t] with the deltas of its sites added, plain or DoRA, see kernels.lora_tile
    x[t, f]    = gate[f] / (1 + exp(-gate[f])) * up[f]                             rounded once
    h[p, t, r] = sum over f in split p of x[t, f] * A[a][r, f]                     r < rank(a, down)

Every row of the work list gets its x, base rows too. Splits depend on F and on the kind of step alone, so
a row's sums do not depend on the rest of the batch. Source: Shazeer 2020 (SwiGLU).

Legend: T rows, F inner features, P splits of F.
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
    row_expand,
    row_ranks,
    row_shrink,
    site_factors,
    site_rank,
    tile_expand,
    tile_ranks,
    tile_shrink,
    wait_for_previous,
)
from kernels.row_tiles import TILE_FIELDS

MAX_ONE_ROW_FEATURES = 1024
_TILE_FIELDS = tl.constexpr(TILE_FIELDS)


@triton.jit  # type: ignore[untyped-decorator]
def _silu_row(
    x_ptr: tl.tensor,
    next_h_ptr: tl.tensor,
    y_ptr: tl.tensor,
    h_ptr: tl.tensor,
    pool_ptr: tl.tensor,
    table: tl.tuple,
    adapter: tl.tensor,
    row: tl.tensor,
    p: tl.tensor,
    gate_site: tl.tensor,
    width: tl.tensor,
    stride_h_row: tl.tensor,
    stride_next_rank: tl.tensor,
    stride_next_row: tl.tensor,
    ranks: tl.tensor,
    b_tile_rows: tl.tensor,
    a_tile_rows: tl.tensor,
    NUM_SPLITS: tl.constexpr,
    TILE_P: tl.constexpr,
    SPLIT_F: tl.constexpr,
    TILE_R: tl.constexpr,
    IS_WHOLE: tl.constexpr,
    ALIGN: tl.constexpr,
    OPERAND: tl.constexpr,
    PDL: tl.constexpr,
) -> None:
    t = row.to(tl.int64)
    f = p * SPLIT_F + tl.arange(0, SPLIT_F)
    is_f = f < width
    gate_rank = site_rank(table, adapter, gate_site)
    up_rank = site_rank(table, adapter, gate_site + 1)
    up_h_ptr = of_site(h_ptr, 1, ranks, NUM_SPLITS)
    down_rank = site_rank(table, adapter, gate_site + 2)
    wait_for_previous(PDL)
    h_gate = row_ranks(h_ptr, t, 0, gate_rank, stride_h_row, NUM_SPLITS, TILE_P, TILE_R)
    h_up = row_ranks(up_h_ptr, t, 0, up_rank, stride_h_row, NUM_SPLITS, TILE_P, TILE_R)
    b_gate = rank_rows(
        pool_ptr, table, adapter, gate_site, 0, gate_rank, f, is_f, b_tile_rows, width, 1, TILE_R,
        IS_WHOLE, ALIGN,
    )  # fmt: skip
    b_up = rank_rows(
        pool_ptr, table, adapter, gate_site + 1, 0, up_rank, f, is_f, b_tile_rows, width, 1, TILE_R,
        IS_WHOLE, ALIGN,
    )  # fmt: skip
    a_down = rank_rows(
        pool_ptr, table, adapter, gate_site + 2, 0, down_rank, f, is_f, a_tile_rows, width, 0, TILE_R,
        IS_WHOLE, ALIGN,
    )  # fmt: skip
    gate_scale, is_gate_dora, gate_factor, bias = site_factors(
        pool_ptr, y_ptr, table, adapter, gate_site, f, is_f, False,
    )  # fmt: skip
    up_scale, is_up_dora, up_factor, bias = site_factors(
        pool_ptr, y_ptr, table, adapter, gate_site + 1, f, is_f, False,
    )  # fmt: skip
    y_ptrs = y_ptr + t * 2 * width + f
    gate = tl.load(y_ptrs, mask=is_f, other=0.0).to(tl.float32)
    up = tl.load(y_ptrs + width, mask=is_f, other=0.0).to(tl.float32)
    delta_gate = row_expand(h_gate, b_gate, OPERAND)
    for first_rank in range(TILE_R, gate_rank, TILE_R):
        h_gate = row_ranks(
            h_ptr, t, first_rank, gate_rank, stride_h_row, NUM_SPLITS, TILE_P, TILE_R,
        )  # fmt: skip
        b_gate = rank_rows(
            pool_ptr, table, adapter, gate_site, first_rank, gate_rank, f, is_f, b_tile_rows, width, 1,
            TILE_R, IS_WHOLE, ALIGN,
        )  # fmt: skip
        delta_gate += row_expand(h_gate, b_gate, OPERAND)
    delta_up = row_expand(h_up, b_up, OPERAND)
    for first_rank in range(TILE_R, up_rank, TILE_R):
        h_up = row_ranks(
            up_h_ptr, t, first_rank, up_rank, stride_h_row, NUM_SPLITS, TILE_P,
            TILE_R,
        )  # fmt: skip
        b_up = rank_rows(
            pool_ptr, table, adapter, gate_site + 1, first_rank, up_rank, f, is_f, b_tile_rows, width, 1,
            TILE_R, IS_WHOLE, ALIGN,
        )  # fmt: skip
        delta_up += row_expand(h_up, b_up, OPERAND)
    gate = adapted(gate, delta_gate, gate_scale, is_gate_dora, gate_factor, bias)
    up = adapted(up, delta_up, up_scale, is_up_dora, up_factor, bias)
    x = (gate / (1.0 + tl.exp(-gate)) * up).to(x_ptr.dtype.element_ty)
    tl.store(x_ptr + t * width + f, x, mask=is_f)
    r = tl.arange(0, TILE_R)
    next_ptrs = next_h_ptr + t * stride_next_row + r * stride_next_rank + p
    tl.store(next_ptrs, row_shrink(x, a_down), mask=r < down_rank)
    for first_rank in range(TILE_R, down_rank, TILE_R):
        a_down = rank_rows(
            pool_ptr, table, adapter, gate_site + 2, first_rank, down_rank, f, is_f, a_tile_rows, width, 0,
            TILE_R, IS_WHOLE, ALIGN,
        )  # fmt: skip
        tl.store(
            next_ptrs + first_rank * stride_next_rank, row_shrink(x, a_down), mask=first_rank + r < down_rank
        )


@triton.jit  # type: ignore[untyped-decorator]
def _silu_tile(
    x_ptr: tl.tensor,
    next_h_ptr: tl.tensor,
    y_ptr: tl.tensor,
    h_ptr: tl.tensor,
    pool_ptr: tl.tensor,
    table: tl.tuple,
    adapter: tl.tensor,
    start: tl.tensor,
    stop: tl.tensor,
    p: tl.tensor,
    gate_site: tl.tensor,
    width: tl.tensor,
    stride_h_row: tl.tensor,
    stride_next_rank: tl.tensor,
    stride_next_row: tl.tensor,
    ranks: tl.tensor,
    b_tile_rows: tl.tensor,
    a_tile_rows: tl.tensor,
    NUM_SPLITS: tl.constexpr,
    TILE_P: tl.constexpr,
    SPLIT_F: tl.constexpr,
    TILE_M: tl.constexpr,
    TILE_F: tl.constexpr,
    TILE_R: tl.constexpr,
    IS_WHOLE: tl.constexpr,
    ALIGN: tl.constexpr,
    OPERAND: tl.constexpr,
    PDL: tl.constexpr,
) -> None:
    t = start + tl.arange(0, TILE_M).to(tl.int64)
    is_row = t < stop
    r = tl.arange(0, TILE_R)
    gate_rank = site_rank(table, adapter, gate_site)
    up_rank = site_rank(table, adapter, gate_site + 1)
    up_h_ptr = of_site(h_ptr, 1, ranks, NUM_SPLITS)
    down_rank = site_rank(table, adapter, gate_site + 2)
    next_ptrs = next_h_ptr + t[:, None] * stride_next_row + r[None, :] * stride_next_rank + p
    wait_for_previous(PDL)
    # Read once: nearly every adapter has no more ranks than these.
    h_gate_0 = tile_ranks(
        h_ptr, start, stop, 0, gate_rank, stride_h_row, NUM_SPLITS, TILE_P, TILE_M, TILE_R,
    )  # fmt: skip
    h_up_0 = tile_ranks(
        up_h_ptr, start, stop, 0, up_rank, stride_h_row, NUM_SPLITS, TILE_P, TILE_M,
        TILE_R,
    )  # fmt: skip
    down = tl.full((TILE_M, TILE_R), 0.0, tl.float32)
    for first in range(p * SPLIT_F, tl.minimum((p + 1) * SPLIT_F, width), TILE_F):
        f = first + tl.arange(0, TILE_F)
        is_f = f < width
        is_element = is_row[:, None] & is_f[None, :]
        b_gate = rank_rows(
            pool_ptr, table, adapter, gate_site, 0, gate_rank, f, is_f, b_tile_rows, width, 1, TILE_R,
            IS_WHOLE, ALIGN,
        )  # fmt: skip
        b_up = rank_rows(
            pool_ptr, table, adapter, gate_site + 1, 0, up_rank, f, is_f, b_tile_rows, width, 1, TILE_R,
            IS_WHOLE, ALIGN,
        )  # fmt: skip
        a_down = rank_rows(
            pool_ptr, table, adapter, gate_site + 2, 0, down_rank, f, is_f, a_tile_rows, width, 0, TILE_R,
            IS_WHOLE, ALIGN,
        )  # fmt: skip
        y_ptrs = y_ptr + t[:, None] * 2 * width + f[None, :]
        gate = tl.load(y_ptrs, mask=is_element, other=0.0).to(tl.float32)
        up = tl.load(y_ptrs + width, mask=is_element, other=0.0).to(tl.float32)
        gate_scale, is_gate_dora, gate_factor, bias = site_factors(
            pool_ptr, y_ptr, table, adapter, gate_site, f, is_f, False,
        )  # fmt: skip
        up_scale, is_up_dora, up_factor, bias = site_factors(
            pool_ptr, y_ptr, table, adapter, gate_site + 1, f, is_f, False,
        )  # fmt: skip
        delta_gate = tile_expand(h_gate_0, b_gate, OPERAND)
        for first_rank in range(TILE_R, gate_rank, TILE_R):
            b_gate = rank_rows(
                pool_ptr, table, adapter, gate_site, first_rank, gate_rank, f, is_f, b_tile_rows, width, 1,
                TILE_R, IS_WHOLE, ALIGN,
            )  # fmt: skip
            h_gate = tile_ranks(
                h_ptr, start, stop, first_rank, gate_rank, stride_h_row, NUM_SPLITS,
                TILE_P, TILE_M, TILE_R,
            )  # fmt: skip
            delta_gate += tile_expand(h_gate, b_gate, OPERAND)
        delta_up = tile_expand(h_up_0, b_up, OPERAND)
        for first_rank in range(TILE_R, up_rank, TILE_R):
            b_up = rank_rows(
                pool_ptr, table, adapter, gate_site + 1, first_rank, up_rank, f, is_f, b_tile_rows, width,
                1, TILE_R, IS_WHOLE, ALIGN,
            )  # fmt: skip
            h_up = tile_ranks(
                up_h_ptr, start, stop, first_rank, up_rank, stride_h_row, NUM_SPLITS,
                TILE_P, TILE_M, TILE_R,
            )  # fmt: skip
            delta_up += tile_expand(h_up, b_up, OPERAND)
        gate = adapted(gate, delta_gate, gate_scale, is_gate_dora, gate_factor[None, :], bias[None, :])
        up = adapted(up, delta_up, up_scale, is_up_dora, up_factor[None, :], bias[None, :])
        x = (gate / (1.0 + tl.exp(-gate)) * up).to(x_ptr.dtype.element_ty)
        tl.store(x_ptr + t[:, None] * width + f[None, :], x, mask=is_element)
        down += tile_shrink(x, a_down, OPERAND)
    tl.store(next_ptrs, down, mask=is_row[:, None] & (r < down_rank)[None, :])
    if down_rank > TILE_R:
        # What other threads of this program stored is read back.
        tl.debug_barrier()
        for first_rank in range(TILE_R, down_rank, TILE_R):
            down = tl.full((TILE_M, TILE_R), 0.0, tl.float32)
            for first in range(p * SPLIT_F, tl.minimum((p + 1) * SPLIT_F, width), TILE_F):
                f = first + tl.arange(0, TILE_F)
                is_f = f < width
                a_down = rank_rows(
                    pool_ptr, table, adapter, gate_site + 2, first_rank, down_rank, f, is_f, a_tile_rows,
                    width, 0, TILE_R, IS_WHOLE, ALIGN,
                )  # fmt: skip
                is_element = is_row[:, None] & is_f[None, :]
                x = tl.load(x_ptr + t[:, None] * width + f[None, :], mask=is_element, other=0.0)
                down += tile_shrink(x, a_down, OPERAND)
            is_rank = first_rank + r < down_rank
            tl.store(next_ptrs + first_rank * stride_next_rank, down, mask=is_row[:, None] & is_rank[None, :])


@triton.jit(do_not_specialize=["gate_site"])  # type: ignore[untyped-decorator]
def silu_expand_shrink_kernel(
    x_ptr: tl.tensor,  # (T, F)
    next_h_ptr: tl.tensor,  # (T, ranks, P) float32, of the down site
    y_ptr: tl.tensor,  # (T, 2 * F)
    h_ptr: tl.tensor,  # (T, 2 * ranks, splits of the hidden size) float32
    pool_ptr: tl.tensor,
    row_tiles_ptr: tl.tensor,  # (W, 3)
    num_tiles_ptr: tl.tensor,  # (1,)
    ranks_ptr: tl.tensor,  # (A, num_sites)
    scales_ptr: tl.tensor,  # (A, num_sites) float32
    offsets_ptr: tl.tensor,  # (A, num_sites, 2, max_tiles) int64
    dora_offsets_ptr: tl.tensor,  # (A, num_sites) int64
    num_sites: tl.tensor,
    max_tiles: tl.tensor,
    gate_site: tl.tensor,  # up's and down's follow
    width: tl.tensor,
    stride_h_row: tl.tensor,
    stride_next_rank: tl.tensor,
    stride_next_row: tl.tensor,
    ranks: tl.tensor,
    b_tile_rows: tl.tensor,
    a_tile_rows: tl.tensor,
    NUM_SPLITS: tl.constexpr,
    TILE_P: tl.constexpr,
    SPLIT_F: tl.constexpr,
    HAS_ONE_ROW_PATH: tl.constexpr,
    TILE_M: tl.constexpr,
    TILE_F: tl.constexpr,
    TILE_R: tl.constexpr,
    IS_WHOLE: tl.constexpr,
    ALIGN: tl.constexpr,
    OPERAND: tl.constexpr,
    PDL: tl.constexpr,
) -> None:
    """Programs take turns in the items: a row tile and a split of the features each."""
    let_next_start(PDL)
    table = (ranks_ptr, scales_ptr, offsets_ptr, dora_offsets_ptr, num_sites, max_tiles)
    num_parts = tl.cdiv(width, SPLIT_F)
    num_items = tl.load(num_tiles_ptr) * num_parts
    for item in range(tl.program_id(0), num_items, tl.num_programs(0)):
        tile_ptr = row_tiles_ptr + item // num_parts * _TILE_FIELDS
        p = item % num_parts
        adapter = tl.load(tile_ptr).to(tl.int64)
        start = tl.load(tile_ptr + 1)
        stop = tl.load(tile_ptr + 2)
        if HAS_ONE_ROW_PATH and stop - start == 1:
            _silu_row(
                x_ptr, next_h_ptr, y_ptr, h_ptr, pool_ptr, table, adapter, start, p, gate_site, width,
                stride_h_row, stride_next_rank, stride_next_row, ranks, b_tile_rows,
                a_tile_rows, NUM_SPLITS, TILE_P, SPLIT_F, TILE_R, IS_WHOLE, ALIGN, OPERAND, PDL,
            )  # fmt: skip
        else:
            _silu_tile(
                x_ptr, next_h_ptr, y_ptr, h_ptr, pool_ptr, table, adapter, start, stop, p, gate_site,
                width, stride_h_row, stride_next_rank, stride_next_row, ranks,
                b_tile_rows, a_tile_rows, NUM_SPLITS, TILE_P, SPLIT_F, TILE_M, TILE_F, TILE_R, IS_WHOLE,
                ALIGN, OPERAND, PDL,
            )  # fmt: skip
    # A program without work waits too.
    wait_for_previous(PDL)


def silu_expand_shrink(
    launch: LoraLaunch, y_TX: Tensor, shrunk: Shrunk, sites: Sequence[LoraSite]
) -> tuple[Tensor, Shrunk]:
    """x [T, F] in y's dtype, and h of the down site.

    `sites` are gate, up and down, with consecutive indices. float32, bfloat16 or float16, contiguous.
    """
    num_rows, width = y_TX.shape[0], y_TX.shape[1] // 2
    table, tiles, row_tiles = launch.table, launch.tiles, launch.row_tiles
    num_splits = triton.cdiv(width, tiles.silu_split)
    x_TF = torch.empty((num_rows, width), dtype=y_TX.dtype, device=y_TX.device)
    following = launch.scratch(num_splits, num_rows, 1)
    silu_expand_shrink_kernel[launch.grid(num_splits)](
        x_TF,
        following.h_TXP,
        y_TX,
        shrunk.h_TXP,
        table.pool_E,
        row_tiles.tiles_W3,
        row_tiles.num_tiles_1,
        *launch.table_arguments(),
        sites[0].index,
        width,
        shrunk.h_TXP.stride(0),
        following.h_TXP.stride(1),
        following.h_TXP.stride(0),
        launch.rank_capacity,
        table.b_rows[sites[0].index],
        table.a_rows[sites[2].index],
        NUM_SPLITS=shrunk.num_splits,
        TILE_P=power_of_two(shrunk.num_splits),
        SPLIT_F=tiles.silu_split,
        # One row of many features at once would not fit into registers.
        HAS_ONE_ROW_PATH=tiles.silu_split <= MAX_ONE_ROW_FEATURES,
        TILE_M=row_tiles.tile_rows,
        TILE_F=tiles.silu_columns,
        **launch.constants(sites, y_TX),
        **launch.options(tiles.silu_warps, tiles.silu_registers),
    )
    return x_TF, following
