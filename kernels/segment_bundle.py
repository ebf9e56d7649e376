"""Sorts a step's segments into those multiplied together and those multiplied alone.

Must not know weights: it looks at row counts only.

Legend: T rows of the batch, S segments of a bundle, M rows a segment is padded to.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.segments import BASE, Segments


@dataclass(frozen=True, slots=True)
class Run:
    """Rows start..stop-1 of the batch, all of one adapter."""

    adapter_index: int
    start: int
    stop: int

    @property
    def num_rows(self) -> int:
        """Rows in the run."""
        return self.stop - self.start


class SegmentBundle:
    """Short runs that one batched matmul serves, each padded to `num_rows` rows.

    `is_even` when nothing needs padding and the runs are adjacent: then the rows are a view of the
    batch. Otherwise they are gathered, and `scatter_` writes the live ones back.
    """

    def __init__(self, runs: Sequence[Run], device: torch.device) -> None:
        self.runs = tuple(runs)
        self.members = tuple(run.adapter_index for run in runs)
        self.num_rows = max(run.num_rows for run in runs)
        self.is_even = all(run.num_rows == self.num_rows for run in runs) and all(
            before.stop == after.start for before, after in zip(self.runs, self.runs[1:], strict=False)
        )
        self.rows = slice(runs[0].start, runs[-1].stop)
        if not self.is_even:
            self._index_rows(device)

    def _index_rows(self, device: torch.device) -> None:
        starts_S1 = torch.tensor([run.start for run in self.runs])[:, None]
        counts_S1 = torch.tensor([run.num_rows for run in self.runs])[:, None]
        m_M = torch.arange(self.num_rows)
        live_SM = m_M < counts_S1
        source_SM = torch.where(live_SM, starts_S1 + m_M, starts_S1)
        self._source = source_SM.flatten().to(device)
        self._live_slots_T = live_SM.flatten().nonzero().flatten().to(device)
        self._live_rows_T = source_SM[live_SM].to(device)

    def gather(self, x_TF: Tensor) -> Tensor:
        """The bundle's rows as (S, M, F): a view if even, else a copy whose padding repeats a row."""
        rows = x_TF[self.rows] if self.is_even else x_TF.index_select(0, self._source)
        return rows.view(len(self.runs), self.num_rows, -1)

    def scatter_(self, y_TN: Tensor, z_SMN: Tensor) -> None:
        """Writes what `gather` copied, and was changed since, back into y_TN."""
        z_TN = z_SMN.view(-1, y_TN.shape[1])
        if self.is_even:
            y_TN[self.rows] = z_TN
        else:
            y_TN.index_copy_(0, self._live_rows_T, z_TN.index_select(0, self._live_slots_T).to(y_TN.dtype))


@dataclass(frozen=True, slots=True)
class BundlePlan:
    """One step's split: every run with an adapter is in one bundle or in `alone`."""

    bundles: tuple[SegmentBundle, ...]
    alone: tuple[Run, ...]


def plan_bundles(
    segments: Segments, max_bundled_rows: int, max_padding: int, device: torch.device
) -> BundlePlan:
    """Runs of at most `max_bundled_rows` go into bundles that pad none by more than `max_padding` times."""
    runs = [
        Run(adapter, segments.starts[s], segments.starts[s + 1])
        for s, adapter in enumerate(segments.adapter_indices)
        if adapter != BASE
    ]
    short = sorted((run for run in runs if run.num_rows <= max_bundled_rows), key=lambda run: -run.num_rows)
    groups: list[list[Run]] = []
    for run in short:
        if groups and run.num_rows * max_padding >= groups[-1][0].num_rows:
            groups[-1].append(run)
        else:
            groups.append([run])
    return BundlePlan(
        bundles=tuple(SegmentBundle(group, device) for group in groups),
        alone=tuple(run for run in runs if run.num_rows > max_bundled_rows),
    )
