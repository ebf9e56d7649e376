"""Rotary position embedding: the angles of a step's positions, and turning heads by them.

Legend: T tokens, G heads, D head dim. Source: Su et al. 2021; llama3 scaling as in Llama 3.1's own
code. Must not know attention or pages.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from services.inference.model.config import RopeConfig


@dataclass(frozen=True, slots=True)
class Rotation:
    """cos_T1D and sin_T1D of a step; the first half of sin_T1D is negated already."""

    cos_T1D: Tensor
    sin_T1D: Tensor

    def turn(self, heads_TGD: Tensor) -> Tensor:
        """`heads_TGD` with dimension i turned against dimension i + D/2; a new tensor."""
        half = heads_TGD.shape[-1] // 2
        return torch.addcmul(heads_TGD * self.cos_T1D, heads_TGD.roll(half, -1), self.sin_T1D)


class Rope:
    """Turns positions into Rotations; angles are computed in float32 whatever the model's dtype."""

    def __init__(self, config: RopeConfig, head_dim: int, dtype: torch.dtype, device: torch.device) -> None:
        frequencies = _frequencies(config, head_dim).to(device)
        self._frequencies_D = torch.cat((frequencies, frequencies))
        self._signs_D = torch.ones(head_dim, dtype=torch.float32, device=device)
        self._signs_D[: head_dim // 2] = -1.0
        self._dtype = dtype

    def rotation(self, positions_T: Tensor) -> Rotation:
        """The rotation of each row; positions are integers from the sequence's start."""
        angles_T1D = positions_T.to(torch.float32)[:, None, None] * self._frequencies_D
        return Rotation(angles_T1D.cos().to(self._dtype), (angles_T1D.sin() * self._signs_D).to(self._dtype))


def _frequencies(config: RopeConfig, head_dim: int) -> Tensor:
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
    plain = 1.0 / (config.theta**exponents)
    if config.kind == "default":
        return plain
    if config.kind == "linear":
        return plain / config.factor
    if config.kind == "llama3":
        return _llama3_frequencies(plain, config)
    raise ValueError(f"unknown rope kind {config.kind!r}")


def _llama3_frequencies(plain: Tensor, config: RopeConfig) -> Tensor:
    """Long wavelengths are stretched by `factor`, short ones kept, those between interpolated."""
    turns = config.original_context_tokens * plain / (2 * math.pi)
    smooth = (turns - config.low_freq_factor) / (config.high_freq_factor - config.low_freq_factor)
    smooth = smooth.clamp(0.0, 1.0)
    return (1 - smooth) * plain / config.factor + smooth * plain
