"""Triton kernel: token ids that name a row of the step before become that row's token.

Must not know batches or sampling. Runs on CUDA, or anywhere under Triton's interpreter.

Semantics:

    id[t] = last[-1 - id[t]]   where id[t] < 0

Legend: T token ids, M rows of the step before.
"""

import triton
import triton.language as tl
from torch import Tensor

TILE_T = 256


# Histories have any length: none of them may be compiled for.
@triton.jit(do_not_specialize=["num_tokens"])  # type: ignore[untyped-decorator]
def pick_tokens_kernel(
    token_ids_ptr: tl.tensor,  # (T,)
    last_ptr: tl.tensor,  # (M,)
    num_tokens: tl.tensor,
    TILE_T: tl.constexpr,
) -> None:
    """One program: TILE_T token ids."""
    t = tl.program_id(0) * TILE_T + tl.arange(0, TILE_T)
    ids = tl.load(token_ids_ptr + t, mask=t < num_tokens, other=0)
    is_row = ids < 0
    picked = tl.load(last_ptr + (-1 - ids), mask=is_row, other=0)
    tl.store(token_ids_ptr + t, picked.to(ids.dtype), mask=is_row)


def pick_tokens_(token_ids_T: Tensor, last_M: Tensor) -> None:
    """Mutates the negative ids of a contiguous int32 or int64 `token_ids_T`; `last_M` is int32."""
    num_tokens = token_ids_T.shape[0]
    pick_tokens_kernel[(triton.cdiv(num_tokens, TILE_T),)](token_ids_T, last_M, num_tokens, TILE_T=TILE_T)
