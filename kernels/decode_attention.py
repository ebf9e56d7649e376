"""Triton kernels: attention of one new token a sequence over pages read in place, split over keys.

Must not know who wrote the pages. Runs on CUDA, or anywhere under Triton's interpreter.

Semantics, for sequence n with context c = context_lens[n], query head h and its KV head g:

    out[n, h] = softmax over s of (query[n, h] . K[s, g] / sqrt(D)) applied to V[s, g]
    s in [max(0, c - window), c)

c = 0 gives zeros: that is what a padding row has. The grid depends on shapes alone: each of P programs
takes a share of a sequence's keys, in whole tiles, and a second launch puts the shares together
(flash-decoding: Dao et al. 2023).

Legend: N sequences, Q query heads, G KV heads, D head dim, P splits, X pages of all sequences.
"""

import math
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels import tuning
from kernels.attend_keys import attend_keys
from kernels.lora_tile import let_next_start, wait_for_previous
from kernels.operand import operand
from kernels.paged_kv import PagedKv


@triton.jit  # type: ignore[untyped-decorator]
def decode_attention_kernel(
    partial_ptr: tl.tensor,  # (N, Q, P, D) float32
    tops_ptr: tl.tensor,  # (N, Q, P) float32
    totals_ptr: tl.tensor,  # (N, Q, P) float32
    query_ptr: tl.tensor,  # (N, Q, D)
    pool_ptr: tl.tensor,
    context_lens_ptr: tl.tensor,  # (N,)
    first_pages_ptr: tl.tensor,  # (N,)
    pages_ptr: tl.tensor,  # (X,)
    layer_offset: tl.tensor,
    page_elements: tl.tensor,
    scale: tl.tensor,
    HEADS_A_GROUP: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PAGE_TOKENS: tl.constexpr,
    WINDOW: tl.constexpr,
    NUM_SPLITS: tl.constexpr,
    TILE_M: tl.constexpr,
    TILE_S: tl.constexpr,
    TILE_D: tl.constexpr,
    OPERAND: tl.constexpr,
    PDL: tl.constexpr,
) -> None:
    """One program: one sequence, one KV head with all its query heads, one share of the keys."""
    let_next_start(PDL)
    n = tl.program_id(0).to(tl.int64)
    g = tl.program_id(1)
    context = tl.load(context_lens_ptr + n).to(tl.int32)
    first = context * 0
    if WINDOW > 0:
        first = tl.maximum(context - WINDOW, 0)
    share = tl.cdiv(tl.cdiv(context - first, TILE_S), NUM_SPLITS) * TILE_S
    first += tl.program_id(2) * share
    stop = tl.minimum(first + share, context)
    m = tl.arange(0, TILE_M)
    d = tl.arange(0, TILE_D)
    is_head = m < HEADS_A_GROUP
    row = n * (KV_HEADS * HEADS_A_GROUP) + g * HEADS_A_GROUP + m
    part = row * NUM_SPLITS + tl.program_id(2)
    wait_for_previous(PDL)
    if first < stop:
        is_element = is_head[:, None] & (d < HEAD_DIM)[None, :]
        q = tl.load(query_ptr + row[:, None] * HEAD_DIM + d[None, :], mask=is_element, other=0.0)
        out, top, total = attend_keys(
            (q.to(tl.float32) * scale).to(OPERAND),
            tl.full((TILE_M,), 0, tl.int32) + context - 1,
            first,
            stop,
            pages_ptr + tl.load(first_pages_ptr + n),
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
        tl.store(partial_ptr + part[:, None] * HEAD_DIM + d[None, :], out, mask=is_element)
        tl.store(tops_ptr + part, top, mask=is_head)
        tl.store(totals_ptr + part, total, mask=is_head)
    else:
        tl.store(tops_ptr + part, tl.full((TILE_M,), float("-inf"), tl.float32), mask=is_head)
        tl.store(totals_ptr + part, tl.full((TILE_M,), 0.0, tl.float32), mask=is_head)


@triton.jit  # type: ignore[untyped-decorator]
def combine_splits_kernel(
    out_ptr: tl.tensor,  # (N * Q, D)
    partial_ptr: tl.tensor,
    tops_ptr: tl.tensor,
    totals_ptr: tl.tensor,
    HEAD_DIM: tl.constexpr,
    NUM_SPLITS: tl.constexpr,
    TILE_D: tl.constexpr,
) -> None:
    """out = sum over p of 2^(top_p - top) partial_p / sum over p of 2^(top_p - top) total_p."""
    row = tl.program_id(0).to(tl.int64)
    d = tl.arange(0, TILE_D)
    part = row * NUM_SPLITS + tl.arange(0, NUM_SPLITS)
    tops = tl.load(tops_ptr + part)
    totals = tl.load(totals_ptr + part)
    top = tl.max(tops, 0)
    weights = tl.exp2(tops - tl.where(top == float("-inf"), 0.0, top))
    # A share without keys wrote no partial sums; one of NaNs has a total that is not 0.
    is_live = (totals != 0.0)[:, None] & (d < HEAD_DIM)[None, :]
    partial = tl.load(partial_ptr + part[:, None] * HEAD_DIM + d[None, :], mask=is_live, other=0.0)
    total = tl.sum(weights * totals, 0)
    out = tl.sum(weights[:, None] * partial, 0) / tl.where(total == 0.0, 1.0, total)
    tl.store(out_ptr + row * HEAD_DIM + d, out.to(out_ptr.dtype.element_ty), mask=d < HEAD_DIM)


@dataclass(frozen=True, slots=True)
class KeyShares:
    """Attention of N sequences to each share of their keys, float32; see `kernels.attend_keys`."""

    partial_NQPD: Tensor
    tops_NQP: Tensor
    totals_NQP: Tensor


def attend_shares(
    query_NQD: Tensor,
    kv: PagedKv,
    layer: int,
    context_lens_N: Tensor,
    first_pages_N: Tensor,
    pages_X: Tensor,
    window_tokens: int | None,
    *,
    uses_pdl: bool = False,
) -> KeyShares:
    """The first of the two launches of `decode_attention`, with its arguments.

    With `uses_pdl` it begins before the kernel before has ended: that one has written the query and
    this step's keys and values, and nothing else that is read here.
    """
    num_sequences, num_heads, head_dim = query_NQD.shape
    num_splits = tuning.num_key_splits(num_sequences * kv.num_kv_heads)
    heads_a_group = num_heads // kv.num_kv_heads
    shape = (num_sequences, num_heads, num_splits)
    shares = KeyShares(
        query_NQD.new_empty((*shape, head_dim), dtype=torch.float32),
        query_NQD.new_empty(shape, dtype=torch.float32),
        query_NQD.new_empty(shape, dtype=torch.float32),
    )
    decode_attention_kernel[(num_sequences, kv.num_kv_heads, num_splits)](
        shares.partial_NQPD,
        shares.tops_NQP,
        shares.totals_NQP,
        query_NQD,
        kv.pool_E,
        context_lens_N,
        first_pages_N,
        pages_X,
        kv.layer_offset(layer),
        kv.page_elements,
        math.log2(math.e) / head_dim**0.5,
        HEADS_A_GROUP=heads_a_group,
        KV_HEADS=kv.num_kv_heads,
        HEAD_DIM=head_dim,
        PAGE_TOKENS=kv.page_tokens,
        WINDOW=window_tokens or 0,
        NUM_SPLITS=num_splits,
        TILE_M=max(16, triton.next_power_of_2(heads_a_group)),
        TILE_S=tuning.ATTENTION_TILE_KEYS,
        TILE_D=max(16, triton.next_power_of_2(head_dim)),
        OPERAND=operand(query_NQD.dtype, kv.pool_E.dtype, not isinstance(attend_keys, triton.JITFunction)),
        PDL=uses_pdl,
        num_stages=tuning.DECODE_ATTENTION_STAGES,
        **({"launch_pdl": True} if uses_pdl else {}),
    )
    return shares


def combine_shares(shares: KeyShares, dtype: torch.dtype) -> Tensor:
    """The second launch: [N, Q * D] in `dtype`."""
    num_sequences, num_heads, num_splits, head_dim = shares.partial_NQPD.shape
    out_NX = shares.partial_NQPD.new_empty((num_sequences, num_heads * head_dim), dtype=dtype)
    combine_splits_kernel[(num_sequences * num_heads,)](
        out_NX,
        shares.partial_NQPD,
        shares.tops_NQP,
        shares.totals_NQP,
        HEAD_DIM=head_dim,
        NUM_SPLITS=num_splits,
        TILE_D=max(16, triton.next_power_of_2(head_dim)),
        num_warps=2,
    )
    return out_NX


def decode_attention(
    query_NQD: Tensor,
    kv: PagedKv,
    layer: int,
    context_lens_N: Tensor,
    first_pages_N: Tensor,
    pages_X: Tensor,
    window_tokens: int | None,
) -> Tensor:
    """[N, Q * D] in the query's dtype; float32, bfloat16 or float16 for it and the pool.

    Integers are int32 or int64. Sequence n's pages lie in token order in pages_X from
    first_pages_N[n] on. query_NQD and all integer tensors are contiguous.
    """
    shares = attend_shares(query_NQD, kv, layer, context_lens_N, first_pages_N, pages_X, window_tokens)
    return combine_shares(shares, query_NQD.dtype)
