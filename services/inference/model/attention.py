"""The one interface of attention over pages.

Legend: T tokens of the step, Q query heads, G KV heads, D head dim. Must not know who implements it.
"""

from typing import Protocol

from torch import Tensor

from services.inference.batch import Batch


class AttentionStep(Protocol):
    """Attention of one batch, layer after layer."""

    def attend(self, layer: int, query_TQD: Tensor, key_TGD: Tensor, value_TGD: Tensor) -> Tensor:
        """Writes the step's keys and values to their slots, then returns the outputs as [T, Q * D].

        Row t sees the keys of its own sequence up to its own position, at most `window` of them in a
        layer with a sliding window; scores are scaled by 1 / sqrt(D).
        """
        ...


class Attention(Protocol):
    """Who attends; one a model, chosen at start."""

    def begin(self, batch: Batch) -> AttentionStep:
        """Lays `batch` out once for all layers. May mutate pages that the batch's sequences write."""
        ...
