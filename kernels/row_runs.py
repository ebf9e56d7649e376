"""Sorts a step's adapter rows into those summed row by row and those multiplied as a matrix.

Must not know weights: it looks at row counts only.
"""

from collections.abc import Iterable
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class RowRuns:
    """Every run with an adapter is in one of the two, in row order."""

    short: tuple[Run, ...]
    long: tuple[Run, ...]


def split_runs(segments: Segments, max_short_rows: int) -> RowRuns:
    """Runs of at most `max_short_rows` rows are short; base rows are in neither."""
    runs = [
        Run(adapter, segments.starts[s], segments.starts[s + 1])
        for s, adapter in enumerate(segments.adapter_indices)
        if adapter != BASE
    ]
    return RowRuns(
        short=tuple(run for run in runs if run.num_rows <= max_short_rows),
        long=tuple(run for run in runs if run.num_rows > max_short_rows),
    )


def split_spans(runs: Iterable[Run], max_gap: int) -> list[list[Run]]:
    """Groups of `runs`, which are in row order, with at most `max_gap` rows of others between two."""
    spans: list[list[Run]] = []
    for run in runs:
        if spans and run.start - spans[-1][-1].stop <= max_gap:
            spans[-1].append(run)
        else:
            spans.append([run])
    return spans
