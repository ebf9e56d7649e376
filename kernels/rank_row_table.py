"""Where each resident adapter's rank rows lie in the pool, on the device and on the host.

Legend: N adapters the table has room for, W sites, J tiles a matrix at most. Must not know who
owns the pool's pages or how weights get there.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.lora_site import TILE_ROWS, LoraSite, tile_rows

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


class RankRowTable:
    """Addresses, ranks and scales of every resident adapter at every site.

    `pool_E` is the whole pool as one flat tensor. A kernel finds a tile in one load:
    offsets_NW2J[adapter, site, 0 or 1, tile]. `rows(adapter)` is the same on the host.
    """

    def __init__(
        self, pool_E: Tensor, sites: Sequence[LoraSite], num_adapters: int, max_rank: int, page_elements: int
    ) -> None:
        device = pool_E.device
        self.pool_E = pool_E
        self.sites = tuple(sites)
        self.num_adapters = num_adapters
        self.max_rank = max_rank
        self.page_elements = page_elements
        self.a_rows = tuple(tile_rows(site.in_features, page_elements) for site in sites)
        self.b_rows = tuple(tile_rows(site.out_features, page_elements) for site in sites)
        max_tiles = max(-(-max_rank // rows) for rows in (*self.a_rows, *self.b_rows, TILE_ROWS))
        shape = (num_adapters, len(sites))
        self.offsets_NW2J = torch.full((*shape, 2, max_tiles), NO_TILE, dtype=torch.int64, device=device)
        self.ranks_NW = torch.zeros(shape, dtype=torch.int32, device=device)
        self.scales_NW = torch.zeros(shape, dtype=torch.float32, device=device)
        self.dora_offsets_NW = torch.full(shape, NO_TILE, dtype=torch.int64, device=device)
        self._rows: list[dict[int, SiteRows]] = [{} for _ in range(num_adapters)]
        self._max_ranks = [0] * num_adapters
        self._generations = [0] * num_adapters
        self.num_writes = 0

    def rows(self, adapter_index: int) -> dict[int, SiteRows]:
        """This adapter's rows by site index; sites it does not touch are absent."""
        return self._rows[adapter_index]

    def generation(self, adapter_index: int) -> int:
        """Changes with every write or clear of `adapter_index`: what was read before is stale."""
        return self._generations[adapter_index]

    def max_live_rank(self, adapter_indices: Iterable[int]) -> int:
        """The largest rank that any of these adapters has at any site; 0 for none."""
        return max((self._max_ranks[index] for index in adapter_indices), default=0)

    def write(self, adapter_index: int, rows: Sequence[SiteRows]) -> None:
        """Replaces all that the table says of `adapter_index`, in one host-to-device copy a tensor."""
        offsets = torch.full_like(self.offsets_NW2J[0], NO_TILE, device="cpu")
        ranks = torch.zeros(len(self.sites), dtype=torch.int32)
        scales = torch.zeros(len(self.sites), dtype=torch.float32)
        dora = torch.full((len(self.sites),), NO_TILE, dtype=torch.int64)
        for row in rows:
            offsets[row.site, 0, : len(row.a_offsets)] = torch.tensor(row.a_offsets)
            offsets[row.site, 1, : len(row.b_offsets)] = torch.tensor(row.b_offsets)
            ranks[row.site], scales[row.site], dora[row.site] = row.rank, row.scale, row.dora_offset
        self.offsets_NW2J[adapter_index].copy_(offsets)
        self.ranks_NW[adapter_index].copy_(ranks)
        self.scales_NW[adapter_index].copy_(scales)
        self.dora_offsets_NW[adapter_index].copy_(dora)
        self._rows[adapter_index] = {row.site: row for row in rows}
        self._max_ranks[adapter_index] = max((row.rank for row in rows), default=0)
        self.num_writes += 1
        self._generations[adapter_index] = self.num_writes

    def clear(self, adapter_index: int) -> None:
        """Forgets `adapter_index`; its tiles may be overwritten afterwards."""
        self.write(adapter_index, ())
