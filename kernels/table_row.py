"""What a RankRowTable says of one adapter, as arrays that are ready to be copied into it.

Made beside the loop, so that the loop copies four small arrays. Must not know pools or devices.

Legend: W sites, J tiles a matrix at most.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

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
    """One adapter at every site, on the host; `rows` says the same by site index."""

    offsets_W2J: Tensor
    ranks_W: Tensor
    scales_W: Tensor
    dora_offsets_W: Tensor
    rows: Mapping[int, SiteRows]
    max_rank: int


@dataclass(frozen=True, slots=True)
class TableShape:
    """The sizes that all rows of one table share."""

    num_sites: int
    max_tiles: int

    def row(self, rows: Sequence[SiteRows]) -> TableRow:
        """The row that says `rows`; sites that are not among them have rank 0 and no tiles."""
        offsets_W2J = np.full((self.num_sites, 2, self.max_tiles), NO_TILE, dtype=np.int64)
        ranks_W = np.zeros(self.num_sites, dtype=np.int32)
        scales_W = np.zeros(self.num_sites, dtype=np.float32)
        dora_offsets_W = np.full(self.num_sites, NO_TILE, dtype=np.int64)
        if rows:
            sites = [row.site for row in rows]
            ranks_W[sites] = [row.rank for row in rows]
            scales_W[sites] = [row.scale for row in rows]
            dora_offsets_W[sites] = [row.dora_offset for row in rows]
            self._fill(offsets_W2J, rows)
        return TableRow(
            torch.from_numpy(offsets_W2J),
            torch.from_numpy(ranks_W),
            torch.from_numpy(scales_W),
            torch.from_numpy(dora_offsets_W),
            {row.site: row for row in rows},
            max((row.rank for row in rows), default=0),
        )

    def _fill(
        self, offsets_W2J: "np.ndarray[tuple[int, int, int], np.dtype[np.int64]]", rows: Sequence[SiteRows]
    ) -> None:
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
