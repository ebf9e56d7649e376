"""A step's work list: the rows of each adapter cut into tiles, in device memory.

Must not know weights or sites; built once a step and read by every launch of it.

Legend: W tiles.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.segments import BASE, Segments

NO_WORK = -1
TILE_FIELDS = 3


@dataclass(frozen=True, slots=True)
class RowTiles:
    """tiles_W3[w] = (adapter index or NO_WORK, first row, last row + 1), int32.

    W depends on the numbers of rows and segments alone, not on who they belong to: the list is
    filled up with NO_WORK. A tile has at most `tile_rows` rows.
    """

    tiles_W3: Tensor
    tile_rows: int


def max_row_tiles(num_rows: int, num_segments: int, tile_rows: int) -> int:
    """The most tiles that `num_segments` segments of `num_rows` rows in all can need."""
    return num_segments + (num_rows - num_segments) // tile_rows


def cut_rows(adapter_index: int, start: int, stop: int, tile_rows: int) -> list[tuple[int, int, int]]:
    """The tiles of one adapter's rows start..stop-1."""
    return [(adapter_index, row, min(row + tile_rows, stop)) for row in range(start, stop, tile_rows)]


def make_row_tiles(segments: Segments, tile_rows: int, device: torch.device) -> RowTiles:
    """Cuts every segment with an adapter; base rows get no tile."""
    tiles: list[tuple[int, int, int]] = []
    for s, adapter in enumerate(segments.adapter_indices):
        if adapter != BASE:
            tiles += cut_rows(adapter, segments.starts[s], segments.starts[s + 1], tile_rows)
    num_tiles = max_row_tiles(segments.starts[-1], len(segments.adapter_indices), tile_rows)
    tiles.extend([(NO_WORK, 0, 0)] * (num_tiles - len(tiles)))
    return RowTiles(torch.tensor(tiles, dtype=torch.int32).to(device, non_blocking=True), tile_rows)
