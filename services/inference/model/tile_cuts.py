"""Rows cut into tiles by numpy, with no loop once a row.

Must not know slices or devices.

Legend: N counts or rows in order, W tiles.
"""

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def exclusive_sum(counts_N: Ints) -> Ints:
    """The sum of all counts before each."""
    return np.cumsum(counts_N) - counts_N


def cut(counts_N: Ints, size: int) -> tuple[Ints, Ints, Ints]:
    """Each count cut into pieces of at most `size`: whose a piece is, where in it, and how large."""
    pieces_N = -(-counts_N // size)
    owners_W = np.repeat(np.arange(len(counts_N)), pieces_N)
    offsets_W = (np.arange(len(owners_W)) - exclusive_sum(pieces_N)[owners_W]) * size
    return owners_W, offsets_W, np.minimum(size, counts_N[owners_W] - offsets_W)


def cut_runs(adapters_N: Ints, counts_N: Ints, tile_rows: int) -> Ints:
    """[W, 3]: (adapter, first row, last row + 1) of tiles of runs that have one adapter.

    Part n has counts_N[n] rows of adapters_N[n].
    """
    if len(adapters_N) == 0:
        return np.zeros((0, 3), dtype=np.int64)
    first_N = np.flatnonzero(np.append(True, adapters_N[1:] != adapters_N[:-1]))
    run_rows = np.add.reduceat(counts_N, first_N)
    owners_W, offsets_W, rows_W = cut(run_rows, tile_rows)
    starts_W = exclusive_sum(run_rows)[owners_W] + offsets_W
    return np.stack((adapters_N[first_N][owners_W], starts_W, starts_W + rows_W), axis=1)
