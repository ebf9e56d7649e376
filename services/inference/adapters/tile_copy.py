"""Copies float arrays from one format into another, as torch rounds, in numpy.

numpy's copies give up the interpreter lock, use the calling thread alone, and transpose 16-bit values
more than twice as fast as torch's on the CPUs tried. Must not know what is copied.

Legend: bits of floats are held in integers of their size.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

Bits = np.ndarray[Any, np.dtype[Any]]

_INTEGERS = {2: (torch.int16, np.uint16), 4: (torch.int32, np.uint32)}


def bits(values: Tensor) -> Bits:
    """`values` on the host as unsigned integers, the same memory."""
    of_torch, of_numpy = _INTEGERS[values.itemsize]
    found: Bits = values.detach().view(of_torch).numpy().view(of_numpy)
    return found


def copy_floats(target: Bits, target_dtype: torch.dtype, source: Bits, source_dtype: torch.dtype) -> None:
    """Fills `target` with the values of `source`, of the same shape, finite, rounded to the nearest even.

    float32, float16 and bfloat16 become float32 or bfloat16, or stay what they are.
    """
    if source_dtype is target_dtype:
        np.copyto(target, source)
        return
    if source_dtype is torch.float16:
        source = source.view(np.float16).astype(np.float32).view(np.uint32)
    elif source_dtype is torch.bfloat16:
        source = np.left_shift(source, 16, dtype=np.uint32)
    if target_dtype is torch.float32:
        np.copyto(target, source)
    elif target_dtype is torch.bfloat16:
        np.copyto(target, _rounded(source), casting="same_kind")
    else:
        raise ValueError(f"nothing is packed as {target_dtype}")


def _rounded(wide: Bits) -> Bits:
    # Half of the last place that stays, less one where that place is even.
    rounded: Bits = (wide + (np.uint32(0x7FFF) + ((wide >> np.uint32(16)) & np.uint32(1)))) >> np.uint32(16)
    return rounded
