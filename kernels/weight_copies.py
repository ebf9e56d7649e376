"""float32 copies of adapters' rank rows, laid out for weighted sums of rows, kept between steps.

Must not know rows of a batch. A copy is an adapter's own, so a batch of other company needs no new
one; and it can never be stale, for it is found by the generation that the RankRowTable gave the
adapter's weights.

What sites that share an input need of one adapter is one group, whose numbers lie in the order in which
they are read: a processor fetches ahead of a long read, but not from one short piece to the next. Of 8
adapters in 8 rows, 6 layers of 192 to 512 features, shrinking took 0.59 ms a step with A and B lying
site by site, and 0.49 ms as groups.

Legend: E floats of the store, K in features, N out features, L lanes, R rank rows, j tiles, c chunks of
n columns, x rows of LANES or n floats.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kernels.lora_site import TILE_ROWS, LoraSite
from kernels.rank_row_table import RankRowTable, SiteRows
from kernels.rank_rows import a_tiles, b_tiles

LANES = TILE_ROWS
"""Rank rows of A that lie side by side in a copy: one vector register of floats, one cache line."""


@dataclass(frozen=True, slots=True)
class GroupCopy:
    """Where one adapter's weights at sites that share an input lie in the store.

    `ranks` are the sites', 0 for one that the adapter does not touch. A: the rank rows of all sites one
    after another, in `num_tiles` tiles; `a_indices` are its rows of LANES floats, in_features a tile,
    float l of row k being rank row LANES * tile + l at column k, or zero past the last; none for an
    embedding. B transposed, times the scale: `b_indices` are its rows of `chunk_width` floats, site by
    site, chunk of columns by chunk, rank rows in order. Both int32.
    """

    ranks: tuple[int, ...]
    num_tiles: int
    a_indices: Tensor
    b_indices: Tensor


@dataclass(eq=False, slots=True)
class AdapterCopy:
    """Room for one adapter's copies, `num_floats` from `start`, of which `used` are filled by `groups`."""

    adapter: int
    start: int
    num_floats: int
    used: int = 0
    groups: dict[tuple[int, ...], GroupCopy] = field(default_factory=dict)


def chunk_width(sites: Sequence[LoraSite]) -> int:
    """Columns that one copied row of B has: as many as divide the out features of all `sites`."""
    return math.gcd(*(site.out_features for site in sites))


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
        self._companies: dict[int, tuple[int, ...]] = {}
        self.num_clears = 0

    def __repr__(self) -> str:
        num_bytes = self._used * self._store_E.itemsize
        return f"WeightCopies(adapters={len(self._copies)}, num_bytes={num_bytes}, clears={self.num_clears})"

    def check_integrity(self) -> None:
        """Raises AssertionError unless every float is one adapter's and all are within the limit."""
        assert self._used == sum(copy.num_floats for copy in self._copies.values()), repr(self)
        assert self._used <= self._max_floats, repr(self)
        assert self._store_E.numel() <= 2 * self._used, f"{self!r} in {self._store_E.numel()} floats"
        assert all(copy.used <= copy.num_floats for copy in self._copies.values()), repr(self)

    def rows(self, width: int) -> Tensor:
        """The store as rows of `width` floats, good until the next `copy`."""
        rows = self._rows.get(width)
        if rows is None:
            num_rows = self._store_E.numel() // width
            rows = self._rows[width] = self._store_E[: num_rows * width].view(num_rows, width)
        return rows

    def copy(self, adapters: Collection[int]) -> dict[int, AdapterCopy]:
        """The copies of those of `adapters` that have room, with room made now where they are missing.

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
                self._copies[keys[adapter]] = self._reserve(adapter)
        return {adapter: self._copies[key] for adapter, key in keys.items() if key in self._copies}

    def group(self, copy: AdapterCopy, sites: Sequence[LoraSite]) -> GroupCopy:
        """The copy of what `sites` need, made when first asked for, while the table has that generation.

        Raises ValueError if a site has come in other company before.
        """
        key = tuple([site.index for site in sites])
        group = copy.groups.get(key)
        if group is None:
            for index in key:
                if self._companies.setdefault(index, key) != key:
                    raise ValueError(f"site {index} comes with {key}, came with {self._companies[index]}")
            group = copy.groups[key] = self._copy_group(copy, sites)
        return group

    def _clear(self) -> None:
        self._copies.clear()
        self._replace(self._store_E.new_empty(0))
        self._used = 0
        self.num_clears += 1

    def _num_floats(self, adapter: int) -> int:
        """Floats that a copy takes at most: what aligns B is counted in full."""
        rows = self._table.rows(adapter).values()
        return sum(_num_site_floats(self._table.sites[row.site], row.rank) for row in rows)

    def _reserve(self, adapter: int) -> AdapterCopy:
        copy = AdapterCopy(adapter, self._used, self._num_floats(adapter))
        self._grow(self._used + copy.num_floats)
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

    def _copy_group(self, copy: AdapterCopy, sites: Sequence[LoraSite]) -> GroupCopy:
        table_rows, width = self._table.rows(copy.adapter), chunk_width(sites)
        present = [(site, table_rows[site.index]) for site in sites if site.index in table_rows]
        ranks = tuple([table_rows[s.index].rank if s.index in table_rows else 0 for s in sites])
        num_tiles = 0 if sites[0].is_embedding else -(-sum(ranks) // LANES)
        a_rows = _take(copy, num_tiles * sites[0].in_features, LANES)
        b_rows = _take(copy, sum(rows.rank * site.out_features // width for site, rows in present), width)
        if a_rows:
            A_xL = self.rows(LANES)[a_rows.start : a_rows.stop]
            self._copy_a(present, A_xL.view(num_tiles, -1, LANES))
        self._copy_b(present, self.rows(width)[b_rows.start : b_rows.stop])
        a_indices, b_indices = (
            torch.arange(rows.start, rows.stop, dtype=torch.int32, device=self._store_E.device)
            for rows in (a_rows, b_rows)
        )
        return GroupCopy(ranks, num_tiles, a_indices, b_indices)

    def _copy_a(self, present: Sequence[tuple[LoraSite, SiteRows]], A_jKL: Tensor) -> None:
        tiles = [tile.float() for site, rows in present for tile in a_tiles(self._table, site, rows)]
        num_padding = len(A_jKL) * LANES - sum(len(tile) for tile in tiles)
        A_RK = torch.cat([*tiles, A_jKL.new_zeros(num_padding, A_jKL.shape[1])])
        A_jKL.copy_(A_RK.view(-1, LANES, A_jKL.shape[1]).transpose(1, 2))

    def _copy_b(self, present: Sequence[tuple[LoraSite, SiteRows]], B_xn: Tensor) -> None:
        first, width = 0, B_xn.shape[1]
        for site, rows in present:
            B_RN = torch.cat(b_tiles(self._table, site, rows)).float() * rows.scale
            B_cRn = B_RN.view(rows.rank, -1, width).transpose(0, 1)
            num_rows = B_RN.numel() // width
            B_xn[first : first + num_rows].view(B_cRn.shape).copy_(B_cRn)
            first += num_rows


def _take(copy: AdapterCopy, num_rows: int, width: int) -> range:
    """The next `num_rows` rows of `width` floats in the room of `copy`; what aligns them was counted."""
    if num_rows == 0:
        return range(0)
    first = -(-(copy.start + copy.used) // width)
    copy.used = (first + num_rows) * width - copy.start
    return range(first, first + num_rows)


def _num_site_floats(site: LoraSite, rank: int) -> int:
    num_tiles = 0 if site.is_embedding else -(-rank // LANES)
    aligning = LANES + site.out_features
    return aligning + num_tiles * site.in_features * LANES + rank * site.out_features
