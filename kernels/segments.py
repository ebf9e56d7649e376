"""The rows of a batch that share an adapter, adjacent to each other.

T rows of the batch; S segments.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.host_copies import to_device

BASE = -1


@dataclass(frozen=True, slots=True)
class Segments:
    """Segment s covers rows starts[s]..starts[s+1]-1 and has adapter_indices[s], BASE for base rows.

    Segments cover all T rows in order; neighbours differ in adapter; none is empty. The tensors are
    the same numbers on the device, int32.
    """

    starts: tuple[int, ...]
    adapter_indices: tuple[int, ...]
    starts_S1: Tensor
    adapter_indices_S: Tensor

    @property
    def has_adapters(self) -> bool:
        """Whether any row has an adapter."""
        return any(index != BASE for index in self.adapter_indices)


def make_segments(runs: Sequence[tuple[int, int]], device: torch.device) -> Segments:
    """Segments of `runs`, (adapter index, number of rows) in row order; equal neighbours are joined."""
    starts: list[int] = [0]
    indices: list[int] = []
    for index, num_rows in runs:
        if num_rows == 0:
            continue
        if indices and indices[-1] == index:
            starts[-1] += num_rows
            continue
        indices.append(index)
        starts.append(starts[-1] + num_rows)
    return Segments(
        starts=tuple(starts),
        adapter_indices=tuple(indices),
        starts_S1=to_device(starts, torch.int32, device),
        adapter_indices_S=to_device(indices, torch.int32, device),
    )
