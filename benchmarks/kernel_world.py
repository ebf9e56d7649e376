"""Layers of base weights and adapters' rank rows on the device, as the kernel table measures them.

Every layer has weights of its own, so that a pass over all of them finds none in a cache, as in a model.
All adapters are laid out once, at the largest rank; one of a lower rank uses the first of its rows.

Legend: K in features, N out features, E elements of the pool. Must not know time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.shape import MIXED, BenchShape
from kernels.choose import make_sgmv
from kernels.lora_site import LoraSite
from kernels.rank_row_table import RankRowTable, SiteRows
from services.inference.model.config import ModelConfig
from services.inference.model.sites import lora_sites

# Sites that share an input, by their place among a layer's seven.
GROUPS = {"o": (3,), "q|k|v": (0, 1, 2), "gate|up": (4, 5), "down": (6,)}
SITES_A_LAYER = 7
# A page of Llama-3.1-8B: 16 tokens of keys and values.
PAGE_ELEMENTS = 1 << 20
STD = 0.02


@dataclass(frozen=True, slots=True)
class Layer:
    """One group's base weight in one layer, and its sites."""

    weight_NK: Tensor
    sites: tuple[LoraSite, ...]


class KernelWorld:
    """`num_adapters` adapters of every rank set, on every site of shape.kernel.num_layers layers."""

    def __init__(
        self, shape: BenchShape, config: ModelConfig, dtype: torch.dtype, device: torch.device
    ) -> None:
        sizes = shape.kernel
        self.device, self.dtype = device, dtype
        self.rank_sets: dict[str, tuple[int, ...]] = {str(rank): (rank,) for rank in sizes.ranks}
        self.rank_sets[MIXED] = sizes.ranks
        self._num_adapters = max(sizes.batches)
        self._sites = tuple(
            site for site in lora_sites(config) if site.index < sizes.num_layers * SITES_A_LAYER
        )
        self._max_rank = max(sizes.ranks)
        row_elements = sum(site.in_features + site.out_features for site in self._sites)
        num_elements = self._num_adapters * self._max_rank * row_elements
        pool_E = torch.empty(num_elements, dtype=dtype, device=device)
        self._generator = torch.Generator(device).manual_seed(2)
        for part in torch.split(pool_E, 1 << 28):
            part.normal_(0.0, STD, generator=self._generator)
        num_rows = self._num_adapters * len(self.rank_sets)
        self.table = RankRowTable(pool_E, self._sites, num_rows, self._max_rank, PAGE_ELEMENTS)
        self._write()
        self.sgmv = make_sgmv(self.table)

    def index(self, rank_set: str, adapter: int) -> int:
        """The table's row of `adapter` with the ranks of `rank_set`."""
        return list(self.rank_sets).index(rank_set) * self._num_adapters + adapter

    def rank(self, rank_set: str, adapter: int) -> int:
        """Rank of `adapter` in `rank_set`, whose ranks take turns."""
        ranks = self.rank_sets[rank_set]
        return ranks[adapter % len(ranks)]

    def layers(self, group: str) -> list[Layer]:
        """Base weights of `group`, fresh on the device: keep them no longer than they are timed."""
        found = []
        for first in range(0, len(self._sites), SITES_A_LAYER):
            sites = tuple(self._sites[first + position] for position in GROUPS[group])
            found.append(Layer(self.random(sum(s.out_features for s in sites), sites[0].in_features), sites))
        return found

    def random(self, rows: int, columns: int, std: float = STD) -> Tensor:
        """Normal values on the device."""
        values = torch.empty(rows, columns, dtype=self.dtype, device=self.device)
        return values.normal_(0.0, std, generator=self._generator)

    def _write(self) -> None:
        for adapter in range(self._num_adapters):
            for rank_set in self.rank_sets:
                rows = self._rows(adapter, self.rank(rank_set, adapter))
                self.table.write(self.index(rank_set, adapter), rows)

    def _rows(self, adapter: int, rank: int) -> Sequence[SiteRows]:
        offset, rows = 0, []
        for site in self._sites:
            tiles = []
            for width, tile_rows in (
                (site.in_features, self.table.a_rows[site.index]),
                (site.out_features, self.table.b_rows[site.index]),
            ):
                first = offset + adapter * self._max_rank * width
                tiles.append(tuple(first + row * width for row in range(0, rank, tile_rows)))
                offset += self._num_adapters * self._max_rank * width
            rows.append(SiteRows(site.index, rank, 2.0, tiles[0], tiles[1]))
        return rows
