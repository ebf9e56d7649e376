"""The one interface of attention over pages.

Legend: T tokens of the step, X q|k|v side by side, Q query heads, D head dim. Must not know who
implements it.
"""

from typing import Protocol

from torch import Tensor

from services.inference.batch import Batch


class AttentionStep(Protocol):
    """Attention of one batch, layer after layer."""

    def attend(self, layer: int, qkv_TX: Tensor) -> Tensor:
        """Writes the step's keys and values to their slots, then returns the outputs as [T, Q * D].

        Query and key heads are normed where the model does so, and turned by their rows' positions.
        Row t sees the keys of its own sequence up to its own position, at most `window` of them in a
        layer with a sliding window; scores are scaled by 1 / sqrt(D).
        """
        ...


class Attention(Protocol):
    """Who attends; one a model, chosen at start."""

    def begin(self, batch: Batch) -> AttentionStep:
        """Lays `batch` out once for all layers. May mutate pages that the batch's sequences write."""
        ...
