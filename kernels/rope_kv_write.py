"""Triton kernel: norm and turn query and key heads, put keys and values into their pages.

Must not know attention. Runs on CUDA, or anywhere under Triton's interpreter.

Semantics, computed in float32, for each row t with q|k|v side by side in qkv, per head x of D:

    x           = x / sqrt(mean of x^2 + eps) * weight                         only with head norms
    x[i]        = x[i] cos[t, i] - x[i + D/2] sin[t, i]                        i < D/2
    x[i + D/2]  = x[i + D/2] cos[t, i] + x[i] sin[t, i]
    query[t]    = the turned query heads
    pool[slot]  = the turned key heads, and the value heads as they are

A slot below 0 is written nowhere: that is what a padding row has. Source: Su et al. 2021.

Legend: T tokens, Q query heads, G KV heads, D head dim, X q|k|v side by side.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.paged_kv import PagedKv


@triton.jit  # type: ignore[untyped-decorator]
def _turned(
    x_ptrs: tl.tensor,
    weight_ptrs: tl.tensor,
    is_element: tl.tensor,
    is_i: tl.tensor,
    cos: tl.tensor,
    sin: tl.tensor,
    eps: tl.tensor,
    HEAD_DIM: tl.constexpr,
    HAS_NORM: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:
    """Both halves of some heads [heads, TILE_I], normed if HAS_NORM, and turned."""
    low = tl.load(x_ptrs, mask=is_element, other=0.0).to(tl.float32)
    high = tl.load(x_ptrs + HEAD_DIM // 2, mask=is_element, other=0.0).to(tl.float32)
    if HAS_NORM:
        scale = tl.rsqrt(tl.sum(low * low + high * high, 1) / HEAD_DIM + eps)[:, None]
        low = low * scale * tl.load(weight_ptrs, mask=is_i, other=0.0).to(tl.float32)
        high = high * scale * tl.load(weight_ptrs + HEAD_DIM // 2, mask=is_i, other=0.0).to(tl.float32)
    return low * cos - high * sin, high * cos + low * sin


@triton.jit  # type: ignore[untyped-decorator]
def rope_kv_write_kernel(
    query_ptr: tl.tensor,  # (T, Q, D)
    pool_ptr: tl.tensor,
    qkv_ptr: tl.tensor,  # (T, (Q + 2 * G) * D)
    cos_ptr: tl.tensor,  # (T, D) float32
    sin_ptr: tl.tensor,  # (T, D) float32; its second half is read
    slots_ptr: tl.tensor,  # (T,)
    q_norm_ptr: tl.tensor,  # (D,), read if HAS_NORM
    k_norm_ptr: tl.tensor,
    layer_offset: tl.tensor,
    page_elements: tl.tensor,
    eps: tl.tensor,
    HEADS_A_GROUP: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PAGE_TOKENS: tl.constexpr,
    HAS_NORM: tl.constexpr,
    TILE_R: tl.constexpr,
    TILE_I: tl.constexpr,
) -> None:
    """One program: one row, one KV head with all its query heads."""
    t = tl.program_id(0).to(tl.int64)
    g = tl.program_id(1)
    r = tl.arange(0, TILE_R)
    i = tl.arange(0, TILE_I)[None, :]
    is_i = i < HEAD_DIM // 2
    cos = tl.load(cos_ptr + t * HEAD_DIM + i, mask=is_i, other=0.0)
    sin = tl.load(sin_ptr + t * HEAD_DIM + HEAD_DIM // 2 + i, mask=is_i, other=0.0)
    slot = tl.load(slots_ptr + t).to(tl.int64)
    qkv_ptr += t * ((KV_HEADS * HEADS_A_GROUP + 2 * KV_HEADS) * HEAD_DIM)
    heads = (g * HEADS_A_GROUP + r)[:, None] * HEAD_DIM + i
    is_query = (r < HEADS_A_GROUP)[:, None] & is_i
    low, high = _turned(qkv_ptr + heads, q_norm_ptr + i, is_query, is_i, cos, sin, eps, HEAD_DIM, HAS_NORM)
    query_ptrs = query_ptr + t * (KV_HEADS * HEADS_A_GROUP * HEAD_DIM) + heads
    tl.store(query_ptrs, low.to(query_ptr.dtype.element_ty), mask=is_query)
    tl.store(query_ptrs + HEAD_DIM // 2, high.to(query_ptr.dtype.element_ty), mask=is_query)
    if slot >= 0:
        key_ptrs = qkv_ptr + (KV_HEADS * HEADS_A_GROUP + g) * HEAD_DIM + i
        low_key, high_key = _turned(key_ptrs, k_norm_ptr + i, is_i, is_i, cos, sin, eps, HEAD_DIM, HAS_NORM)
        value_ptrs = key_ptrs + KV_HEADS * HEAD_DIM
        low_value = tl.load(value_ptrs, mask=is_i, other=0.0)
        high_value = tl.load(value_ptrs + HEAD_DIM // 2, mask=is_i, other=0.0)
        to_ptrs = pool_ptr + slot // PAGE_TOKENS * page_elements + layer_offset
        to_ptrs += slot % PAGE_TOKENS * (KV_HEADS * HEAD_DIM) + g * HEAD_DIM + i
        element = pool_ptr.dtype.element_ty
        tl.store(to_ptrs, low_key.to(element), mask=is_i)
        tl.store(to_ptrs + HEAD_DIM // 2, high_key.to(element), mask=is_i)
        to_ptrs += PAGE_TOKENS * KV_HEADS * HEAD_DIM
        tl.store(to_ptrs, low_value.to(element), mask=is_i)
        tl.store(to_ptrs + HEAD_DIM // 2, high_value.to(element), mask=is_i)


def rope_kv_write(
    qkv_TX: Tensor,
    cos_TD: Tensor,
    sin_TD: Tensor,
    slots_T: Tensor,
    kv: PagedKv,
    layer: int,
    norms: tuple[Tensor, Tensor] | None,
    eps: float,
) -> Tensor:
    """The turned queries [T, Q, D], contiguous; mutates the pool at the rows' slots.

    cos_TD and sin_TD are float32, both halves alike but for sin_TD's sign in the first, which is not
    read. `norms` are the weights [D] of the query's and the key's norm. All tensors are contiguous.
    """
    head_dim = kv.head_dim
    num_heads = qkv_TX.shape[1] // head_dim - 2 * kv.num_kv_heads
    query_TQD = torch.empty((len(qkv_TX), num_heads, head_dim), dtype=qkv_TX.dtype, device=qkv_TX.device)
    q_norm_D, k_norm_D = norms or (qkv_TX, qkv_TX)
    rope_kv_write_kernel[(len(qkv_TX), kv.num_kv_heads)](
        query_TQD,
        kv.pool_E,
        qkv_TX,
        cos_TD,
        sin_TD,
        slots_T,
        q_norm_D,
        k_norm_D,
        kv.layer_offset(layer),
        kv.page_elements,
        eps,
        HEADS_A_GROUP=num_heads // kv.num_kv_heads,
        KV_HEADS=kv.num_kv_heads,
        HEAD_DIM=head_dim,
        PAGE_TOKENS=kv.page_tokens,
        HAS_NORM=norms is not None,
        TILE_R=triton.next_power_of_2(num_heads // kv.num_kv_heads),
        TILE_I=triton.next_power_of_2(head_dim // 2),
        num_warps=1,
    )
    return query_TQD
