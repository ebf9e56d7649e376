"""float32 copies of adapters' rank rows, laid out for weighted sums of rows, kept between steps.

Must not know rows of a batch. A copy is an adapter's own, so a batch of other company needs no new
one; and it can never be stale, for it is found by the generation that the RankRowTable gave the
adapter's weights.

Legend: E floats of the store, K in features, N out features, L lanes, R rank rows, j tiles.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kernels.lora_site import TILE_ROWS, LoraSite
from kernels.rank_row_table import RankRowTable, SiteRows
from kernels.rank_rows import a_tiles, b_tiles

LANES = TILE_ROWS
"""Rank rows of A that lie side by side in a copy: one vector register of floats, one cache line."""


@dataclass(frozen=True, slots=True)
class SiteCopy:
    """Where one adapter's weights at one site lie in the store, in floats from its start.

    A: `num_tiles` tiles from `a_offset` on, each in_features rows of LANES floats, float l of row k
    being A[LANES * tile + l, k], or zero past the rank; none for an embedding. B transposed, times
    the scale: `rank` rows of out_features from `b_offset`, a multiple of out_features.
    """

    rank: int
    num_tiles: int
    a_offset: int
    b_offset: int


@dataclass(eq=False, slots=True)
class AdapterCopy:
    """One adapter's copies by site index, and what a row of it sums by the sites that share an input.

    `indices` are filled by `kernels.row_bags`, and last as long as the copies they point to.
    """

    num_floats: int
    sites: dict[int, SiteCopy] = field(default_factory=dict)
    indices: dict[tuple[int, ...], tuple[Tensor, Tensor]] = field(default_factory=dict)


class WeightCopies:
    """Copies of at most `max_bytes`, in one store that only grows until it is cleared.

    The store's memory is at most twice what lies in it. What the adapters of a batch leave no room
    for is not copied.
    """

    def __init__(self, table: RankRowTable, max_bytes: int) -> None:
        self._table = table
        self._max_floats = max_bytes // torch.float32.itemsize
        self._store_E = torch.empty(0, dtype=torch.float32, device=table.pool_E.device)
        self._used = 0
        self._rows: dict[int, Tensor] = {}
        self._copies: dict[tuple[int, int], AdapterCopy] = {}
        self.num_clears = 0

    def __repr__(self) -> str:
        num_bytes = self._used * self._store_E.itemsize
        return f"WeightCopies(adapters={len(self._copies)}, num_bytes={num_bytes}, clears={self.num_clears})"

    def check_integrity(self) -> None:
        """Raises AssertionError unless every float is one adapter's and all are within the limit."""
        assert self._used == sum(copy.num_floats for copy in self._copies.values()), repr(self)
        assert self._used <= self._max_floats, repr(self)
        assert self._store_E.numel() <= 2 * self._used, f"{self!r} in {self._store_E.numel()} floats"

    def rows(self, width: int) -> Tensor:
        """The store as rows of `width` floats, good until the next `copy`."""
        rows = self._rows.get(width)
        if rows is None:
            num_rows = self._store_E.numel() // width
            rows = self._rows[width] = self._store_E[: num_rows * width].view(num_rows, width)
        return rows

    def copy(self, adapters: Collection[int]) -> dict[int, AdapterCopy]:
        """The copies of those of `adapters` that have room, made now where they are missing.

        Clears the store first, and so ends the validity of all copies handed out, if room is wanting
        and at least half of it goes to others: what a clear makes be copied again is less than what
        was copied since the last.
        """
        keys = {adapter: (adapter, self._table.generation(adapter)) for adapter in adapters}
        missing = [adapter for adapter, key in keys.items() if key not in self._copies]
        wanted = sum(self._num_floats(adapter) for adapter in missing)
        kept = sum(self._copies[key].num_floats for key in keys.values() if key in self._copies)
        if self._used + wanted > self._max_floats and 2 * (self._used - kept) >= self._max_floats:
            self._clear()
            missing = list(keys)
        for adapter in missing:
            if self._used + self._num_floats(adapter) <= self._max_floats:
                self._copies[keys[adapter]] = self._copy_adapter(adapter)
        return {adapter: self._copies[key] for adapter, key in keys.items() if key in self._copies}

    def _clear(self) -> None:
        self._copies.clear()
        self._replace(self._store_E.new_empty(0))
        self._used = 0
        self.num_clears += 1

    def _num_floats(self, adapter: int) -> int:
        """Floats that a copy takes at most: what aligns B is counted in full."""
        rows = self._table.rows(adapter).values()
        return sum(_num_site_floats(self._table.sites[row.site], row.rank) for row in rows)

    def _copy_adapter(self, adapter: int) -> AdapterCopy:
        copy = AdapterCopy(self._num_floats(adapter))
        self._grow(self._used + copy.num_floats)
        offset = self._used
        for rows in self._table.rows(adapter).values():
            site = self._table.sites[rows.site]
            copy.sites[rows.site] = self._copy_site(site, rows, offset)
            offset += _num_site_floats(site, rows.rank)
        self._used += copy.num_floats
        return copy

    def _grow(self, num_floats: int) -> None:
        if num_floats > self._store_E.numel():
            grown_E = self._store_E.new_empty(max(num_floats, 2 * self._used))
            grown_E[: self._used] = self._store_E[: self._used]
            self._replace(grown_E)

    def _replace(self, store_E: Tensor) -> None:
        self._store_E = store_E
        self._rows.clear()

    def _copy_site(self, site: LoraSite, rows: SiteRows, offset: int) -> SiteCopy:
        num_tiles = 0 if site.is_embedding else -(-rows.rank // LANES)
        a_offset = -(-offset // LANES) * LANES
        a_end = a_offset + num_tiles * site.in_features * LANES
        if not site.is_embedding:
            A_jKL = self._store_E[a_offset:a_end].view(num_tiles, site.in_features, LANES)
            A_jKL[-1].zero_()
            for tile, part in enumerate(a_tiles(self._table, site, rows)):
                first = tile * self._table.a_rows[site.index]
                lane = first % LANES
                A_jKL[first // LANES, :, lane : lane + len(part)] = part.t()
        b_offset = -(-a_end // site.out_features) * site.out_features
        b_end = b_offset + rows.rank * site.out_features
        B_RN = self._store_E[b_offset:b_end].view(rows.rank, -1)
        torch.mul(torch.cat(b_tiles(self._table, site, rows)).float(), rows.scale, out=B_RN)
        return SiteCopy(rows.rank, num_tiles, a_offset, b_offset)


def _num_site_floats(site: LoraSite, rank: int) -> int:
    num_tiles = 0 if site.is_embedding else -(-rank // LANES)
    aligning = LANES + site.out_features
    return aligning + num_tiles * site.in_features * LANES + rank * site.out_features
