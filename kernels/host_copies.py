"""Numbers from the host to a device and back, without waiting for what the device still has to do.

A copy from or to pageable memory waits for the stream before it; one of pinned memory does not. Pinned
blocks come from torch's own cache, which gives a block out again only when its copies have ended. Must
not know what the numbers mean.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_ALIGNMENT = 16


def to_device(values: Sequence[Any], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A tensor of `values` on `device`, there in the stream's order."""
    host = torch.tensor(values, dtype=dtype, pin_memory=device.type == "cuda")
    return host.to(device, non_blocking=True)


class SentArrays:
    """Arrays that are added one by one and sent together, in one copy."""

    def __init__(self) -> None:
        self._arrays: list[NDArray[Any]] = []
        self._tensors: list[Tensor] = []

    def add(self, values: Any, dtype: type[np.int64] | type[np.float32]) -> int:
        """Keeps `values` to be sent; returns what `[]` takes for their tensor afterwards."""
        self._arrays.append(np.ascontiguousarray(values, dtype=dtype))
        return len(self._arrays) - 1

    def send(self, device: torch.device) -> None:
        """Copies all that was added, if anything; the device gets it in the stream's order."""
        if not self._arrays:
            return
        starts = [0]
        for array in self._arrays:
            starts.append(starts[-1] + -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT)
        host_X = torch.empty(starts[-1], dtype=torch.uint8, pin_memory=device.type == "cuda")
        bytes_X = host_X.numpy()
        for array, start in zip(self._arrays, starts, strict=False):
            bytes_X[start : start + array.nbytes] = array.reshape(-1).view(np.uint8)
        device_X = host_X.to(device, non_blocking=True)
        self._tensors = [
            device_X[start : start + array.nbytes].view(_TORCH_DTYPES[array.dtype]).view(array.shape)
            for array, start in zip(self._arrays, starts, strict=False)
        ]

    def __getitem__(self, index: int) -> Tensor:
        """The tensor on the device of what `add` returned `index` for."""
        return self._tensors[index]


_TORCH_DTYPES = {np.dtype(np.int64): torch.int64, np.dtype(np.float32): torch.float32}


class HostCopies:
    """Tensors on their way to the host, as they are at this point of the stream.

    On a device that computes in the call they are those tensors, not to be changed afterwards.
    """

    def __init__(self, tensors: Sequence[Tensor], device: torch.device) -> None:
        self._tensors = list(tensors)
        self._arrived: torch.cuda.Event | None = None
        if device.type == "cuda":
            self._tensors = [
                torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(
                    tensor, non_blocking=True
                )
                for tensor in tensors
            ]
            self._arrived = torch.cuda.current_stream(device).record_event()

    def wait(self) -> list[Tensor]:
        """Waits for the device to come this far, no further; the tensors on the host."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._tensors
