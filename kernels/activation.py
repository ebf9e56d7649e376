"""Triton kernel: SiLU(gate) * up.

Must not know layers. Runs on CUDA, or anywhere under Triton's interpreter.

Semantics, computed in float32, gate|up side by side in x:

    out[t, f] = x[t, f] / (1 + exp(-x[t, f])) * x[t, F + f]

Legend: T rows, F inner features. Source: Shazeer 2020 (SwiGLU).
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE_F = 1024


@triton.jit  # type: ignore[untyped-decorator]
def silu_mul_kernel(
    out_ptr: tl.tensor,  # (T, F)
    x_ptr: tl.tensor,  # (T, 2 * F)
    num_features: tl.tensor,
    TILE_F: tl.constexpr,
) -> None:
    """One program: TILE_F features of one row."""
    t = tl.program_id(0).to(tl.int64)
    f = tl.program_id(1) * TILE_F + tl.arange(0, TILE_F)
    is_f = f < num_features
    x_ptrs = x_ptr + t * 2 * num_features + f
    gate = tl.load(x_ptrs, mask=is_f, other=0.0).to(tl.float32)
    up = tl.load(x_ptrs + num_features, mask=is_f, other=0.0).to(tl.float32)
    out = gate / (1.0 + tl.exp(-gate)) * up
    tl.store(out_ptr + t * num_features + f, out.to(out_ptr.dtype.element_ty), mask=is_f)


def silu_mul(gate_up_TX: Tensor) -> Tensor:
    """[T, F] in the input's dtype of a contiguous [T, 2 * F]; float32, bfloat16 or float16."""
    num_rows, num_features = gate_up_TX.shape[0], gate_up_TX.shape[1] // 2
    out_TF = torch.empty((num_rows, num_features), dtype=gate_up_TX.dtype, device=gate_up_TX.device)
    grid = (num_rows, triton.cdiv(num_features, TILE_F))
    silu_mul_kernel[grid](out_TF, gate_up_TX, num_features, TILE_F=TILE_F)
    return out_TF
