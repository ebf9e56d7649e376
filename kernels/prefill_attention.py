"""Triton kernel: causal attention of chunks of many sequences over pages read in place.

Must not know who wrote the pages. Runs on CUDA, or anywhere under Triton's interpreter.

Semantics, for row t at position p of its sequence, query head h and its KV head g:

    out[t, h] = softmax over s of (query[t, h] . K[s, g] / sqrt(D)) applied to V[s, g]
    s in [max(0, p + 1 - window), p]

A program's query rows are some tokens times the query heads of one KV head, so each key is read once
for all of them.

Legend: T tokens, N sequences, Q query heads, D head dim, W query tiles, X pages of all sequences.
"""

import math
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels import tuning
from kernels.attend_keys import attend_keys
from kernels.operand import operand
from kernels.paged_kv import PagedKv

TILE_FIELDS = 4
_TILE_FIELDS = tl.constexpr(TILE_FIELDS)


@triton.jit  # type: ignore[untyped-decorator]
def prefill_attention_kernel(
    out_ptr: tl.tensor,  # (T, Q, D)
    query_ptr: tl.tensor,  # (T, Q, D)
    pool_ptr: tl.tensor,
    tiles_ptr: tl.tensor,  # (W, 4)
    pages_ptr: tl.tensor,  # (X,)
    layer_offset: tl.tensor,
    page_elements: tl.tensor,
    scale: tl.tensor,
    HEADS_A_GROUP: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PAGE_TOKENS: tl.constexpr,
    WINDOW: tl.constexpr,
    TILE_M: tl.constexpr,
    TILE_S: tl.constexpr,
    TILE_D: tl.constexpr,
    OPERAND: tl.constexpr,
) -> None:
    """One program: one query tile, one KV head with all its query heads."""
    tile_ptr = tiles_ptr + tl.program_id(0) * _TILE_FIELDS
    first_page = tl.load(tile_ptr)
    first_row = tl.load(tile_ptr + 1)
    num_rows = tl.load(tile_ptr + 2)
    first_position = tl.load(tile_ptr + 3)
    g = tl.program_id(1)
    m = tl.arange(0, TILE_M)
    d = tl.arange(0, TILE_D)
    token = m // HEADS_A_GROUP
    row = (
        (first_row + token).to(tl.int64) * (KV_HEADS * HEADS_A_GROUP) + g * HEADS_A_GROUP + m % HEADS_A_GROUP
    )
    is_element = (token < num_rows)[:, None] & (d < HEAD_DIM)[None, :]
    q = tl.load(query_ptr + row[:, None] * HEAD_DIM + d[None, :], mask=is_element, other=0.0)
    first_key = first_position * 0
    if WINDOW > 0:
        first_key = tl.maximum(first_position - WINDOW + 1, 0)
    out, _, total = attend_keys(
        (q.to(tl.float32) * scale).to(OPERAND),
        first_position + token,
        first_key,
        first_position + num_rows,
        pages_ptr + first_page,
        pool_ptr + layer_offset + g * HEAD_DIM,
        page_elements,
        KV_HEADS,
        HEAD_DIM,
        PAGE_TOKENS,
        WINDOW,
        TILE_M,
        TILE_S,
        TILE_D,
        OPERAND,
    )
    out = out / tl.where(total == 0.0, 1.0, total)[:, None]
    out_ptrs = out_ptr + row[:, None] * HEAD_DIM + d[None, :]
    tl.store(out_ptrs, out.to(out_ptr.dtype.element_ty), mask=is_element)


def tile_tokens(heads_a_group: int) -> int:
    """Tokens of one query tile: as many as fit with all query heads of a KV head, at least one."""
    return max(1, tuning.PREFILL_TILE_ROWS // heads_a_group)


def query_tiles(
    query_starts: Sequence[int], context_lens: Sequence[int], first_pages: Sequence[int], num_tokens: int
) -> list[tuple[int, int, int, int]]:
    """(first page, first row, rows, first row's position) of tiles of at most `num_tokens` rows.

    Sequence n has rows query_starts[n]..query_starts[n+1]-1, the last at position context_lens[n] - 1.
    """
    tiles: list[tuple[int, int, int, int]] = []
    for n, context in enumerate(context_lens):
        stop = query_starts[n + 1]
        tiles.extend(
            (first_pages[n], row, min(num_tokens, stop - row), context - stop + row)
            for row in range(query_starts[n], stop, num_tokens)
        )
    return tiles


def prefill_attention(
    query_TQD: Tensor,
    kv: PagedKv,
    layer: int,
    tiles_W4: Tensor,
    pages_X: Tensor,
    window_tokens: int | None,
) -> Tensor:
    """[T, Q * D] in the query's dtype; rows that no tile covers are left unwritten.

    float32, bfloat16 or float16 for the query and the pool. tiles_W4 are `query_tiles` of
    `tile_tokens`; integers are int32 or int64, all tensors contiguous.
    """
    num_tokens, num_heads, head_dim = query_TQD.shape
    heads_a_group = num_heads // kv.num_kv_heads
    out_TX = torch.empty((num_tokens, num_heads * head_dim), dtype=query_TQD.dtype, device=query_TQD.device)
    prefill_attention_kernel[(len(tiles_W4), kv.num_kv_heads)](
        out_TX,
        query_TQD,
        kv.pool_E,
        tiles_W4,
        pages_X,
        kv.layer_offset(layer),
        kv.page_elements,
        math.log2(math.e) / head_dim**0.5,
        HEADS_A_GROUP=heads_a_group,
        KV_HEADS=kv.num_kv_heads,
        HEAD_DIM=head_dim,
        PAGE_TOKENS=kv.page_tokens,
        WINDOW=window_tokens or 0,
        TILE_M=max(16, triton.next_power_of_2(tile_tokens(heads_a_group) * heads_a_group)),
        TILE_S=tuning.ATTENTION_TILE_KEYS,
        TILE_D=max(16, triton.next_power_of_2(head_dim)),
        OPERAND=operand(query_TQD.dtype, kv.pool_E.dtype, not isinstance(attend_keys, triton.JITFunction)),
    )
    return out_TX
