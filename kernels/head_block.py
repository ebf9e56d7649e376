"""Triton: some heads of q, of k or of v as columns of q|k|v, and their norms.

Must not know LoRA, rope or pages.

Legend: M rows, N columns: the lower halves of HEADS heads side by side, TILE_I for each, or the upper ones.
"""

import triton
import triton.language as tl


@triton.jit  # type: ignore[untyped-decorator]
def block_of_heads(
    block: tl.tensor, QUERY_HEADS: tl.constexpr, KV_HEADS: tl.constexpr, HEADS: tl.constexpr
) -> tuple[tl.tensor, tl.tensor, tl.tensor, tl.tensor]:
    """(kind, heads of that kind, the block's first of them, heads of the kinds before); 0, 1, 2: q, k, v."""
    QUERY_BLOCKS: tl.constexpr = (QUERY_HEADS + HEADS - 1) // HEADS
    KV_BLOCKS: tl.constexpr = (KV_HEADS + HEADS - 1) // HEADS
    kind = tl.where(block < QUERY_BLOCKS, 0, 1 + (block - QUERY_BLOCKS) // KV_BLOCKS)
    num_heads = tl.where(kind == 0, QUERY_HEADS, KV_HEADS)
    first_head = tl.where(kind == 0, block, (block - QUERY_BLOCKS) % KV_BLOCKS) * HEADS
    return kind, num_heads, first_head, tl.where(kind == 0, 0, QUERY_HEADS + (kind - 1) * KV_HEADS)


@triton.jit  # type: ignore[untyped-decorator]
def norm_weights(
    q_norm_ptr: tl.tensor, k_norm_ptr: tl.tensor, kind: tl.tensor, i: tl.tensor, is_n: tl.tensor
) -> tl.tensor:
    """Those of the query's or of the key's norm at i, float32."""
    weight = tl.load(q_norm_ptr + i, mask=tl.where(kind == 0, is_n, False), other=0.0).to(tl.float32)
    return weight + tl.load(k_norm_ptr + i, mask=tl.where(kind == 1, is_n, False), other=0.0).to(tl.float32)


@triton.jit  # type: ignore[untyped-decorator]
def head_scales(
    low: tl.tensor,  # (N, M)
    high: tl.tensor,
    eps: tl.tensor,
    TILE_M: tl.constexpr,
    HEADS: tl.constexpr,
    TILE_I: tl.constexpr,
    HEAD_DIM: tl.constexpr,
) -> tl.tensor:
    """1 / root mean square of each head, at each of its columns, (N, M)."""
    squares = tl.reshape(low * low + high * high, (HEADS, TILE_I, TILE_M))
    scale = tl.rsqrt(tl.sum(squares, 1) / HEAD_DIM + eps)[:, None, :]
    return tl.reshape(tl.broadcast_to(scale, (HEADS, TILE_I, TILE_M)), (HEADS * TILE_I, TILE_M))
