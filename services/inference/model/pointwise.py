"""The arithmetic between a layer's matmuls: residual, norm and activation.

Legend: T rows, H hidden, F inner features, X gate|up side by side. Must not know matmuls or attention.
"""

from typing import Protocol

import torch.nn.functional as F
from torch import Tensor


class Pointwise(Protocol):
    """Who does it; one a model, chosen at start."""

    def add_norm_(self, hidden_TH: Tensor, delta_TH: Tensor | None, weight_H: Tensor, eps: float) -> Tensor:
        """hidden_TH + delta_TH, RMS-normed, a new tensor; mutates hidden_TH to the sum."""
        ...

    def silu_mul(self, gate_up_TX: Tensor) -> Tensor:
        """SiLU(gate) * up, [T, F], a new tensor."""
        ...


class TorchPointwise:
    """`Pointwise` by torch ops, on any device."""

    def add_norm_(self, hidden_TH: Tensor, delta_TH: Tensor | None, weight_H: Tensor, eps: float) -> Tensor:
        """As Pointwise.add_norm_."""
        if delta_TH is not None:
            hidden_TH += delta_TH
        return F.rms_norm(hidden_TH, weight_H.shape, weight_H, eps)

    def silu_mul(self, gate_up_TX: Tensor) -> Tensor:
        """As Pointwise.silu_mul."""
        gate_TF, up_TF = gate_up_TX.chunk(2, dim=-1)
        return F.silu(gate_TF) * up_TF
