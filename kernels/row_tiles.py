"""A step's work list: the rows of each adapter, and base rows, cut into tiles, in device memory.

Must not know weights or sites; built once a step and read by every launch of it.

Legend: W tiles, T rows.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.host_copies import to_device
from kernels.segments import BASE, Segments

NO_WORK = BASE
TILE_FIELDS = 3
_HEADER_WORDS = 4


@dataclass(frozen=True, slots=True)
class RowTiles:
    """tiles_W3[w] = (adapter index or BASE, first row, last row + 1); everything is int32.

    W depends on the numbers of rows and segments alone, not on who they belong to: after the first
    num_tiles_1[0] tiles the list is filled up with (NO_WORK, 0, 0). A tile has at most `tile_rows`
    rows. row_adapters_T is each row's adapter index or BASE.
    """

    tiles_W3: Tensor
    num_tiles_1: Tensor
    row_adapters_T: Tensor
    tile_rows: int


def max_row_tiles(num_rows: int, num_segments: int, tile_rows: int) -> int:
    """The most tiles that `num_segments` segments of `num_rows` rows in all can need."""
    return num_segments + (num_rows - num_segments) // tile_rows


def cut_rows(adapter_index: int, start: int, stop: int, tile_rows: int) -> list[tuple[int, int, int]]:
    """The tiles of one adapter's rows start..stop-1."""
    return [(adapter_index, row, min(row + tile_rows, stop)) for row in range(start, stop, tile_rows)]


def make_row_tiles(segments: Segments, tile_rows: int, device: torch.device) -> RowTiles:
    """Cuts every segment; sent in one copy, each part of it aligned to 16 bytes."""
    tiles: list[tuple[int, int, int]] = []
    owners: list[int] = []
    for s, adapter in enumerate(segments.adapter_indices):
        start, stop = segments.starts[s], segments.starts[s + 1]
        tiles += cut_rows(adapter, start, stop, tile_rows)
        owners += [adapter] * (stop - start)
    num_tiles = max_row_tiles(segments.starts[-1], len(segments.adapter_indices), tile_rows)
    words = [len(tiles), *[0] * (_HEADER_WORDS - 1)]
    for tile in (*tiles, *[(NO_WORK, 0, 0)] * (num_tiles - len(tiles))):
        words += tile
    tiles_end = len(words)
    words += [0] * (-tiles_end % _HEADER_WORDS)
    first_owner = len(words)
    words_X = to_device(words + owners, torch.int32, device)
    return RowTiles(
        tiles_W3=words_X[_HEADER_WORDS:tiles_end].view(num_tiles, TILE_FIELDS),
        num_tiles_1=words_X[:1],
        row_adapters_T=words_X[first_owner:],
        tile_rows=tile_rows,
    )
