"""Triton: softmax(q K^T) V of one tile of query rows over a range of one sequence's keys, read in pages.

Must not know which rows a program serves, nor how partial results are put together.

Semantics, over the keys s in [first, stop) with age = position[m] - s in [0, WINDOW):

    score[m, s] = q[m] . K[s]
    top[m]      = max over s of score[m, s]
    total[m]    = sum over s of 2^(score[m, s] - top[m])
    out[m]      = sum over s of 2^(score[m, s] - top[m]) * V[s]

A row that sees no key has top -inf, total 0 and out 0. WINDOW 0 means no bound. Online softmax:
Milakov and Gimelshein 2018; Dao et al. 2022.
"""

import triton
import triton.language as tl


@triton.jit  # type: ignore[untyped-decorator]
def attend_keys(
    q: tl.tensor,  # (TILE_M, TILE_D) of OPERAND, scaled by log2(e) / sqrt(D)
    position: tl.tensor,  # (TILE_M,)
    first: tl.tensor,
    stop: tl.tensor,
    pages_ptr: tl.tensor,  # the sequence's pages in token order
    key_ptr: tl.tensor,  # the layer's keys of one head in page 0
    page_elements: tl.tensor,
    KV_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PAGE_TOKENS: tl.constexpr,
    WINDOW: tl.constexpr,
    TILE_M: tl.constexpr,
    TILE_S: tl.constexpr,
    TILE_D: tl.constexpr,
    OPERAND: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """(out, top, total), float32; keys at or past `stop`, and pages that hold none, are not read."""
    d = tl.arange(0, TILE_D)
    top = tl.full((TILE_M,), float("-inf"), tl.float32)
    total = tl.full((TILE_M,), 0.0, tl.float32)
    out = tl.full((TILE_M, TILE_D), 0.0, tl.float32)
    for start in range(first, stop, TILE_S):
        s = start + tl.arange(0, TILE_S)
        is_key = s < stop
        page = tl.load(pages_ptr + s // PAGE_TOKENS, mask=is_key, other=0).to(tl.int64)
        token = page * page_elements + s % PAGE_TOKENS * (KV_HEADS * HEAD_DIM)
        key_ptrs = key_ptr + token[:, None] + d[None, :]
        is_element = is_key[:, None] & (d < HEAD_DIM)[None, :]
        key = tl.load(key_ptrs, mask=is_element, other=0.0)
        value = tl.load(key_ptrs + PAGE_TOKENS * KV_HEADS * HEAD_DIM, mask=is_element, other=0.0)
        score = tl.dot(q, tl.trans(key.to(OPERAND)), input_precision="ieee")
        age = position[:, None] - s[None, :]
        is_seen = is_key[None, :] & (age >= 0)
        if WINDOW > 0:
            is_seen = is_seen & (age < WINDOW)
        score = tl.where(is_seen, score, float("-inf"))
        new_top = tl.maximum(top, tl.max(score, 1))
        # Without a key so far, -inf - -inf would be NaN.
        reference = tl.where(new_top == float("-inf"), 0.0, new_top)
        weight = tl.exp2(score - reference[:, None])
        kept = tl.exp2(top - reference)
        total = total * kept + tl.sum(weight, 1)
        out = tl.dot(weight.to(OPERAND), value.to(OPERAND), out * kept[:, None], input_precision="ieee")
        top = new_top
    return out, top, total
