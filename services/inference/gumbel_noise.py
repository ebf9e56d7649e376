"""Random numbers that are a function of (seed, position, token): the same in any batch, on any device.

Legend: X rows, V vocabulary. Must not know logits or sampling parameters.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MASK_32 = 0xFFFFFFFF
BELOW_ONE = 1.0 - 2.0**-24


def noise_keys(pairs: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    """[2, X]: what `gumbel_noise` needs to know of each row's (seed, position)."""
    return np.array([_halves(*pair) for pair in pairs], dtype=np.int64).reshape(-1, 2).T


def gumbel_noise(keys_2X: Tensor, like_XV: Tensor) -> Tensor:
    """Standard Gumbel noise in float32, of the shape and on the device of `like_XV`.

    Entry [x, v] is a function of row x's (seed, position), hashed into keys_2X by `noise_keys`, and v alone.

    The token with the largest log-probability + noise is a draw from the distribution (Gumbel 1954;
    Maddison et al. 2014).
    """
    device = like_XV.device
    halves_2X1 = keys_2X.unsqueeze(2)
    hashed_XV = _mix_(torch.arange(like_XV.shape[1], device=device)) ^ halves_2X1[0]
    hashed_XV = _mix_(hashed_XV).bitwise_xor_(halves_2X1[1])
    uniform_XV = hashed_XV.to(torch.float32).add_(0.5).mul_(2.0**-32).clamp_(max=BELOW_ONE)
    # -log1p(-u) rather than -log(u): the largest noise, which decides draws, keeps full precision.
    return uniform_XV.neg_().log1p_().neg_().log_().neg_()


def _halves(seed: int, position: int) -> tuple[int, int]:
    digest = hashlib.blake2b(f"{seed}:{position}".encode(), digest_size=8).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")


def _mix_(values: Tensor) -> Tensor:
    """A bijection of 32-bit integers held in int64, in place; multipliers under 2^31 cannot overflow.

    Constants: "lowbias32" as improved in Wellons' hash-prospector.
    """
    values.bitwise_xor_(values >> 16).mul_(0x21F0AAAD).bitwise_and_(MASK_32)
    values.bitwise_xor_(values >> 15).mul_(0x735A2D97).bitwise_and_(MASK_32)
    return values.bitwise_xor_(values >> 15)
