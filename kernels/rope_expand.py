"""Triton kernel: LoRA deltas of q, k and v; norm and turn heads; keys and values into their pages.

Must not know attention or A. Runs on CUDA, or under Triton's interpreter.

Semantics, for each row t of the work list with q|k|v side by side in qkv:

    z[t]  = qkv[t] with the deltas of its sites added, plain or DoRA, see kernels.lora_tile
    then query[t] and the pool's slot as kernels.rope_kv_write has them, from z in place of qkv

z is not rounded between the two. Source: Su et al. 2021.

Legend: T rows, Q query heads, G KV heads, D head dim, I half of D, P splits.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.head_block import block_of_heads
from kernels.heads_row import heads_row
from kernels.heads_tile import heads_tile
from kernels.lora_launch import LoraLaunch, Shrunk, power_of_two
from kernels.lora_site import LoraSite
from kernels.lora_tile import let_next_start, wait_for_previous
from kernels.paged_kv import PagedKv
from kernels.row_tiles import TILE_FIELDS

_TILE_FIELDS = tl.constexpr(TILE_FIELDS)


@dataclass(frozen=True, slots=True)
class HeadTurn:
    """How a layer's heads are normed and turned, and where their keys and values go.

    cos_TD and sin_TD are float32 and `norms` the weights [D] of the query's and the key's norm, as in
    kernels.rope_kv_write. All tensors are contiguous.
    """

    cos_TD: Tensor
    sin_TD: Tensor
    slots_T: Tensor
    kv: PagedKv
    layer: int
    norms: tuple[Tensor, Tensor] | None
    eps: float


@triton.jit(do_not_specialize=["first_site"])  # type: ignore[untyped-decorator]
def rope_expand_kernel(
    query_ptr: tl.tensor,  # (T, Q, D)
    kv_ptr: tl.tensor,  # the pool, as pages
    pool_ptr: tl.tensor,  # the pool, as rank rows
    qkv_ptr: tl.tensor,  # (T, (Q + 2 * G) * D)
    bias_ptr: tl.tensor,  # ((Q + 2 * G) * D,), read if HAS_BIAS
    h_ptr: tl.tensor,  # (T, 3 * ranks, P) float32
    cos_ptr: tl.tensor,  # (T, D) float32
    sin_ptr: tl.tensor,  # (T, D) float32; its second half is read
    slots_ptr: tl.tensor,  # (T,)
    q_norm_ptr: tl.tensor,  # (D,), read if HAS_NORM
    k_norm_ptr: tl.tensor,
    row_tiles_ptr: tl.tensor,  # (W, 3)
    num_tiles_ptr: tl.tensor,  # (1,)
    ranks_ptr: tl.tensor,  # (A, num_sites)
    scales_ptr: tl.tensor,  # (A, num_sites) float32
    offsets_ptr: tl.tensor,  # (A, num_sites, 2, max_tiles) int64
    dora_offsets_ptr: tl.tensor,  # (A, num_sites) int64
    num_sites: tl.tensor,
    max_tiles: tl.tensor,
    first_site: tl.tensor,  # q's; k's and v's follow
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
    ROW_HEADS: tl.constexpr,
    TILE_M: tl.constexpr,
    TILE_I: tl.constexpr,
    TILE_R: tl.constexpr,
    IS_WHOLE: tl.constexpr,
    ALIGN: tl.constexpr,
    OPERAND: tl.constexpr,
    PDL: tl.constexpr,
) -> None:
    """Programs take turns in the items: a row tile and HEADS heads of q, of k or of v each."""
    let_next_start(PDL)
    table = (ranks_ptr, scales_ptr, offsets_ptr, dora_offsets_ptr, num_sites, max_tiles)
    NUM_BLOCKS: tl.constexpr = (QUERY_HEADS + HEADS - 1) // HEADS + 2 * ((KV_HEADS + HEADS - 1) // HEADS)
    num_items = tl.load(num_tiles_ptr) * NUM_BLOCKS
    for item in range(tl.program_id(0), num_items, tl.num_programs(0)):
        tile_ptr = row_tiles_ptr + item // NUM_BLOCKS * _TILE_FIELDS
        block = item % NUM_BLOCKS
        adapter = tl.load(tile_ptr).to(tl.int64)
        start = tl.load(tile_ptr + 1)
        stop = tl.load(tile_ptr + 2)
        if stop - start == 1:
            first_head = block_of_heads(block, QUERY_HEADS, KV_HEADS, HEADS)[2]
            if first_head % ROW_HEADS == 0:
                heads_row(
                    query_ptr, kv_ptr, pool_ptr, qkv_ptr, bias_ptr, h_ptr, cos_ptr, sin_ptr, slots_ptr,
                    q_norm_ptr, k_norm_ptr, table, adapter, start, block, first_site, layer_offset,
                    page_elements, eps, stride_h_row, ranks, q_tile_rows, kv_tile_rows, NUM_SPLITS, TILE_P,
                    QUERY_HEADS, KV_HEADS, HEAD_DIM, PAGE_TOKENS, HAS_NORM, HAS_BIAS, HEADS, ROW_HEADS,
                    TILE_I, TILE_R, IS_WHOLE, ALIGN, OPERAND, PDL,
                )  # fmt: skip
        else:
            heads_tile(
                query_ptr, kv_ptr, pool_ptr, qkv_ptr, bias_ptr, h_ptr, cos_ptr, sin_ptr, slots_ptr,
                q_norm_ptr, k_norm_ptr, table, adapter, start, stop, block, first_site, layer_offset,
                page_elements, eps,
                stride_h_row, ranks, q_tile_rows, kv_tile_rows, NUM_SPLITS, TILE_P, QUERY_HEADS, KV_HEADS,
                HEAD_DIM, PAGE_TOKENS, HAS_NORM, HAS_BIAS, HEADS, TILE_M, TILE_I, TILE_R, IS_WHOLE, ALIGN,
                OPERAND, PDL,
            )  # fmt: skip
    # A program without work waits too.
    wait_for_previous(PDL)


def rope_expand(
    launch: LoraLaunch,
    qkv_TX: Tensor,
    bias_X: Tensor | None,
    shrunk: Shrunk,
    sites: Sequence[LoraSite],
    turn: HeadTurn,
) -> Tensor:
    """The turned queries [T, Q, D], contiguous; mutates the pool at the rows' slots.

    `sites` are q, k and v, with consecutive indices; qkv_TX has bias_X added. Rows in no tile of the
    step are left unwritten. float32, bfloat16 or float16, contiguous.
    """
    kv, table, tiles, row_tiles = turn.kv, launch.table, launch.tiles, launch.row_tiles
    half_tile = max(16, power_of_two(kv.head_dim // 2))
    num_heads = qkv_TX.shape[1] // kv.head_dim - 2 * kv.num_kv_heads
    shape = (len(qkv_TX), num_heads, kv.head_dim)
    query_TQD = torch.empty(shape, dtype=qkv_TX.dtype, device=qkv_TX.device)
    q_norm_D, k_norm_D = turn.norms or (qkv_TX, qkv_TX)
    num_blocks = triton.cdiv(num_heads, tiles.heads) + 2 * triton.cdiv(kv.num_kv_heads, tiles.heads)
    rope_expand_kernel[launch.grid(num_blocks)](
        query_TQD,
        kv.pool_E,
        table.pool_E,
        qkv_TX,
        qkv_TX if bias_X is None else bias_X,
        shrunk.h_TXP,
        turn.cos_TD,
        turn.sin_TD,
        turn.slots_T,
        q_norm_D,
        k_norm_D,
        row_tiles.tiles_W3,
        row_tiles.num_tiles_1,
        *launch.table_arguments(),
        sites[0].index,
        kv.layer_offset(turn.layer),
        kv.page_elements,
        turn.eps,
        shrunk.h_TXP.stride(0),
        launch.rank_capacity,
        table.b_rows[sites[0].index],
        table.b_rows[sites[1].index],
        NUM_SPLITS=shrunk.num_splits,
        TILE_P=power_of_two(shrunk.num_splits),
        QUERY_HEADS=num_heads,
        KV_HEADS=kv.num_kv_heads,
        HEAD_DIM=kv.head_dim,
        PAGE_TOKENS=kv.page_tokens,
        HAS_NORM=turn.norms is not None,
        HAS_BIAS=bias_X is not None,
        HEADS=tiles.heads,
        ROW_HEADS=tiles.heads * tiles.row_parts(tiles.heads * half_tile, tiles.rope_warps),
        TILE_M=row_tiles.tile_rows,
        TILE_I=half_tile,
        **launch.constants(sites, qkv_TX),
        **launch.options(tiles.rope_warps, tiles.max_registers),
    )
    return query_TQD
