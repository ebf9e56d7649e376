"""Where each resident adapter's rank rows lie in the pool, on the device and on the host.

Legend: N adapters the table has room for, W sites, J tiles a matrix at most. Must not know who
owns the pool's pages or how weights get there.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from kernels.lora_site import TILE_ROWS, LoraSite, tile_rows
from kernels.table_row import NO_TILE, SiteRows, TableRow, TableShape

__all__ = ["NO_TILE", "RankRowTable", "SiteRows", "TableRow", "TableShape"]


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
        self.row_shape = TableShape(len(sites), max_tiles, is_pinned=pool_E.is_cuda)
        self._max_ranks = [0] * num_adapters
        self._generations = [0] * num_adapters
        self._empty = self.row_shape.row(())
        self._list_rows = [self._empty.list_rows] * num_adapters
        self._rows: dict[int, Mapping[int, SiteRows]] = {}
        self.num_writes = 0

    def rows(self, adapter_index: int) -> Mapping[int, SiteRows]:
        """This adapter's rows by site index; sites it does not touch are absent."""
        found = self._rows.get(adapter_index)
        if found is None:
            found = {row.site: row for row in self._list_rows[adapter_index]()}
            self._rows[adapter_index] = found
        return found

    def generation(self, adapter_index: int) -> int:
        """Changes with every write or clear of `adapter_index`: what was read before is stale."""
        return self._generations[adapter_index]

    def max_live_rank(self, adapter_indices: Iterable[int]) -> int:
        """The largest rank that any of these adapters has at any site; 0 for none."""
        return max((self._max_ranks[index] for index in adapter_indices), default=0)

    def write(self, adapter_index: int, rows: Sequence[SiteRows]) -> None:
        """Replaces all that the table says of `adapter_index`."""
        self.put(adapter_index, self.row_shape.row(rows))

    def put(self, adapter_index: int, row: TableRow) -> None:
        """The same with a row of `row_shape` made before: one host-to-device copy a tensor.

        On the current stream, so that steps launched before read what was there. Nobody waits for the device
        if the row is pinned; what lies in its arrays must not be changed any more.
        """
        self.offsets_NW2J[adapter_index].copy_(row.offsets_W2J, non_blocking=True)
        self.ranks_NW[adapter_index].copy_(row.ranks_W, non_blocking=True)
        self.scales_NW[adapter_index].copy_(row.scales_W, non_blocking=True)
        self.dora_offsets_NW[adapter_index].copy_(row.dora_offsets_W, non_blocking=True)
        self._rows.pop(adapter_index, None)
        self._list_rows[adapter_index] = row.list_rows
        self._max_ranks[adapter_index] = row.max_rank
        self.num_writes += 1
        self._generations[adapter_index] = self.num_writes

    def clear(self, adapter_index: int) -> None:
        """Forgets `adapter_index`; its tiles may be overwritten afterwards."""
        self.put(adapter_index, self._empty)
