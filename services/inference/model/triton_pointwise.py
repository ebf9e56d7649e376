"""The arithmetic between a layer's matmuls, one Triton launch each.

Legend: T rows, H hidden, X gate|up side by side. Must not know matmuls or attention.
"""

from torch import Tensor

from kernels.activation import silu_mul
from kernels.norm import add_rms_norm_


class TritonPointwise:
    """`Pointwise` on a CUDA device."""

    def add_norm_(self, hidden_TH: Tensor, delta_TH: Tensor | None, weight_H: Tensor, eps: float) -> Tensor:
        """As Pointwise.add_norm_."""
        return add_rms_norm_(hidden_TH, delta_TH, weight_H, eps)

    def silu_mul(self, gate_up_TX: Tensor) -> Tensor:
        """As Pointwise.silu_mul."""
        return silu_mul(gate_up_TX)
