"""Sorts a step's segments into those multiplied together and those multiplied alone.

Must not know weights: it looks at row counts only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from kernels.segments import BASE, Segments


@dataclass(frozen=True, slots=True)
class Run:
    """Rows start..stop-1 of the batch, all of one adapter."""

    adapter_index: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class SegmentBundle:
    """Short runs in row order, served together; base rows may lie between them."""

    runs: tuple[Run, ...]

    @property
    def members(self) -> tuple[int, ...]:
        """The adapters, ascending, each once."""
        return tuple(sorted({run.adapter_index for run in self.runs}))

    @property
    def rows(self) -> slice:
        """All rows from the first run to the last."""
        return slice(self.runs[0].start, self.runs[-1].stop)

    def owners(self) -> list[int]:
        """The adapter of each of `rows`, BASE in between."""
        owners = [BASE] * (self.rows.stop - self.rows.start)
        for run in self.runs:
            first = run.start - self.rows.start
            owners[first : first + run.stop - run.start] = [run.adapter_index] * (run.stop - run.start)
        return owners


def plan_bundles(
    segments: Segments, max_rows: int, max_adapters: int
) -> tuple[tuple[SegmentBundle, ...], tuple[Run, ...]]:
    """Bundles of neighbouring runs, at most `max_rows` rows and `max_adapters` runs each, and the rest.

    The rest are the runs of more than `max_rows` rows. Base rows are in neither, unless between.
    """
    groups: list[list[Run]] = []
    alone: list[Run] = []
    for s, adapter in enumerate(segments.adapter_indices):
        run = Run(adapter, segments.starts[s], segments.starts[s + 1])
        if adapter == BASE:
            continue
        if run.stop - run.start > max_rows:
            alone.append(run)
        elif groups and _fits(groups[-1], run, max_rows, max_adapters):
            groups[-1].append(run)
        else:
            groups.append([run])
    return tuple(SegmentBundle(tuple(group)) for group in groups), tuple(alone)


def _fits(group: Sequence[Run], run: Run, max_rows: int, max_adapters: int) -> bool:
    return len(group) < max_adapters and run.stop - group[0].start <= max_rows
