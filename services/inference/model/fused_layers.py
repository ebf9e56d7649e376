"""The one interface of layers that do LoRA arithmetic inside the kernels between matmuls.

Legend: T tokens of the step, H hidden. Must not know who implements it.
"""

from typing import Protocol

from torch import Tensor

from kernels.segments import Segments
from services.inference.layer_gates import LayerGates
from services.inference.model.attention import AttentionStep


class FusedLayers(Protocol):
    """All layers of a model, for steps that have adapters; chosen at start."""

    def forward_(
        self, hidden_TH: Tensor, attention: AttentionStep, segments: Segments, gates: LayerGates
    ) -> None:
        """Runs every layer on the residual stream, mutating hidden_TH to its end; nothing is left to add.

        Whoever calls has passed the gate of layer 0.
        """
        ...
