"""What a RankRowTable says of one adapter, as arrays that are ready to be copied into it.

The loop copies four small arrays. Must not know pools or devices.

Legend: W sites, J tiles a matrix at most.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

NO_TILE = -1


@dataclass(frozen=True, slots=True)
class SiteRows:
    """One adapter's weights at one site: y += scale * (x A^T) B, then DoRA's column factor.

    Offsets are in elements from the start of the pool. Tile j of A holds rank rows
    j*a_rows .. of width in_features; tile j of B holds rank rows of B transposed, of width
    out_features. `dora_offset` is one row of out_features: m/||W + scale*BA|| - 1 per output
    column, or NO_TILE.
    """

    site: int
    rank: int
    scale: float
    a_offsets: tuple[int, ...]
    b_offsets: tuple[int, ...]
    dora_offset: int = NO_TILE


@dataclass(frozen=True, slots=True, eq=False)
class TableRow:
    """One adapter at every site, on the host; `list_rows` says the same site by site."""

    offsets_W2J: Tensor
    ranks_W: Tensor
    scales_W: Tensor
    dora_offsets_W: Tensor
    max_rank: int
    list_rows: Callable[[], Sequence[SiteRows]]


@dataclass(frozen=True, slots=True)
class TableShape:
    """The sizes that all rows of one table share; pinned rows are copied to a GPU without waiting for it."""

    num_sites: int
    max_tiles: int
    is_pinned: bool = False

    def row(self, rows: Sequence[SiteRows]) -> TableRow:
        """The row that says `rows`; sites that are not among them have rank 0 and no tiles."""
        rows = tuple(rows)
        row = self.blank(max((row.rank for row in rows), default=0), lambda: rows)
        row.offsets_W2J.fill_(NO_TILE)
        row.dora_offsets_W.fill_(NO_TILE)
        row.ranks_W.zero_()
        row.scales_W.zero_()
        if rows:
            sites = [row.site for row in rows]
            row.ranks_W.numpy()[sites] = [row.rank for row in rows]
            row.scales_W.numpy()[sites] = [row.scale for row in rows]
            row.dora_offsets_W.numpy()[sites] = [row.dora_offset for row in rows]
            self._fill(row.offsets_W2J.numpy(), rows)
        return row

    def blank(self, max_rank: int, list_rows: Callable[[], Sequence[SiteRows]]) -> TableRow:
        """A row with any numbers in its arrays, which lie in one piece of memory."""
        num_sites, num_tiles = self.num_sites, 2 * self.num_sites * self.max_tiles
        buffer = torch.empty(8 * (num_tiles + 2 * num_sites), dtype=torch.uint8, pin_memory=self.is_pinned)
        num_words = num_tiles + num_sites
        words, rest = buffer[: 8 * num_words].view(torch.int64), buffer[8 * num_words :]
        return TableRow(
            offsets_W2J=words[:num_tiles].view(num_sites, 2, self.max_tiles),
            ranks_W=rest[: 4 * num_sites].view(torch.int32),
            scales_W=rest[4 * num_sites :].view(torch.float32),
            dora_offsets_W=words[num_tiles:],
            max_rank=max_rank,
            list_rows=list_rows,
        )

    def _fill(self, offsets_W2J: "np.ndarray[Any, np.dtype[np.int64]]", rows: Sequence[SiteRows]) -> None:
        # One assignment for all tiles: a position in the flat array and an offset for each.
        matrices = [
            ((2 * row.site + matrix) * self.max_tiles, offsets)
            for row in rows
            for matrix, offsets in enumerate((row.a_offsets, row.b_offsets))
        ]
        crowded = next((offsets for _, offsets in matrices if len(offsets) > self.max_tiles), None)
        if crowded is not None:
            raise ValueError(f"{len(crowded)} tiles for a table of {self.max_tiles}")
        positions = list(chain.from_iterable(range(start, start + len(found)) for start, found in matrices))
        offsets_W2J.reshape(-1)[positions] = list(chain.from_iterable(found for _, found in matrices))
