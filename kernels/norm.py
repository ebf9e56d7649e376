"""Triton kernel: RMS norm of rows, with a residual added first.

Must not know layers. Runs on CUDA, or anywhere under Triton's interpreter.

Semantics, row by row, computed in float32:

    h      = h + delta                                   written back in h's dtype; only with a delta
    out[i] = h[i] / sqrt(mean over j of h[j]^2 + eps) * weight[i]

Legend: T rows, H hidden. Source: Zhang and Sennrich 2019.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_WIDE_ROW = 4096


@triton.jit  # type: ignore[untyped-decorator]
def rms_norm_kernel(
    out_ptr: tl.tensor,  # (T, H)
    residual_ptr: tl.tensor,  # (T, H)
    delta_ptr: tl.tensor,  # (T, H), read if HAS_DELTA
    weight_ptr: tl.tensor,  # (H,)
    stride_h: tl.tensor,
    stride_delta: tl.tensor,
    eps: tl.tensor,
    HIDDEN: tl.constexpr,
    HAS_DELTA: tl.constexpr,
    TILE_H: tl.constexpr,
) -> None:
    """One program: one row."""
    t = tl.program_id(0).to(tl.int64)
    i = tl.arange(0, TILE_H)
    is_i = i < HIDDEN
    h = tl.load(residual_ptr + t * stride_h + i, mask=is_i, other=0.0).to(tl.float32)
    weight = tl.load(weight_ptr + i, mask=is_i, other=0.0).to(tl.float32)
    if HAS_DELTA:
        h += tl.load(delta_ptr + t * stride_delta + i, mask=is_i, other=0.0).to(tl.float32)
        rounded = h.to(residual_ptr.dtype.element_ty)
        tl.store(residual_ptr + t * stride_h + i, rounded, mask=is_i)
        h = rounded.to(tl.float32)
    out = h * tl.rsqrt(tl.sum(h * h, 0) / HIDDEN + eps) * weight
    tl.store(out_ptr + t * HIDDEN + i, out.to(out_ptr.dtype.element_ty), mask=is_i)


def add_rms_norm_(h_TH: Tensor, delta_TH: Tensor | None, weight_H: Tensor, eps: float) -> Tensor:
    """The norm of h_TH + delta_TH, contiguous, in h_TH's dtype; mutates h_TH to that sum.

    float32, bfloat16 or float16; the last dimension of each has stride 1.
    """
    num_rows, hidden = h_TH.shape
    out_TH = torch.empty((num_rows, hidden), dtype=h_TH.dtype, device=h_TH.device)
    other_TH = h_TH if delta_TH is None else delta_TH
    rms_norm_kernel[(num_rows,)](
        out_TH,
        h_TH,
        other_TH,
        weight_H,
        h_TH.stride(0),
        other_TH.stride(0),
        eps,
        HIDDEN=hidden,
        HAS_DELTA=delta_TH is not None,
        TILE_H=triton.next_power_of_2(hidden),
        num_warps=8 if hidden >= _WIDE_ROW else 4,
    )
    return out_TH
