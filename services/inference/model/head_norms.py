"""The weights of a layer's query and key norms.

Legend: D head dim. Must not know who applies them.
"""

from dataclasses import dataclass

from torch import Tensor

from services.inference.model.weights import LayerWeights, Weights


@dataclass(frozen=True, slots=True)
class HeadNorms:
    """RMS norm of each query head and of each key head, before they are turned."""

    query_D: Tensor
    key_D: Tensor


def head_norms(weights: Weights) -> tuple[HeadNorms | None, ...]:
    """By layer; None where heads are taken as they are."""
    return tuple(_of_layer(layer) for layer in weights.layers)


def _of_layer(layer: LayerWeights) -> HeadNorms | None:
    if layer.q_norm_D is None or layer.k_norm_D is None:
        return None
    return HeadNorms(layer.q_norm_D, layer.k_norm_D)
