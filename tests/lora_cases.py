"""Random adapters scattered over a poisoned pool, and the truth about what they add.

Everything of the pool that is no rank row is NaN, so that reading a single element too many shows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kernels.lora_site import LoraSite
from kernels.rank_row_table import NO_TILE, RankRowTable, SiteRows
from kernels.segments import BASE, Segments, make_segments

ALIGNMENT_BYTES = 16


@dataclass(frozen=True)
class DenseSite:
    """One adapter's weights at one site in float64, as rounded to the pool's dtype."""

    A_RK: Tensor
    B_RN: Tensor
    scale: float
    dora_N: Tensor | None


@dataclass
class AdapterWorld:
    """A pool, its table and, per adapter and site index, the same weights dense."""

    table: RankRowTable
    dense: dict[int, dict[int, DenseSite]] = field(default_factory=dict)

    def segments(self, runs: Sequence[tuple[int, int]]) -> Segments:
        return make_segments(runs, self.table.pool_E.device)


class ScatteredPages:
    """Hands out pages of the pool in random order and cuts tiles from them, 16-byte aligned."""

    def __init__(self, table: RankRowTable, generator: torch.Generator) -> None:
        self._table = table
        num_pages = table.pool_E.numel() // table.page_elements
        self._free = torch.randperm(num_pages, generator=generator).tolist()
        self._page, self._used = self._free.pop(), 0

    def put(self, rows_RF: Tensor) -> int:
        """Writes rows contiguously inside one page; its offset."""
        size = rows_RF.numel()
        assert size <= self._table.page_elements
        if self._used + size > self._table.page_elements:
            self._page, self._used = self._free.pop(), 0
        offset = self._page * self._table.page_elements + self._used
        self._table.pool_E[offset : offset + size] = rows_RF.flatten().to(self._table.pool_E.dtype)
        align = ALIGNMENT_BYTES // self._table.pool_E.itemsize
        self._used += -(-size // align) * align
        return offset

    def put_tiles(self, rows_RF: Tensor, tile_rows: int) -> tuple[int, ...]:
        return tuple(self.put(rows_RF[j : j + tile_rows]) for j in range(0, len(rows_RF), tile_rows))


def make_sites(*widths: tuple[int, int]) -> tuple[LoraSite, ...]:
    return tuple(LoraSite(i, f"site{i}", k, n) for i, (k, n) in enumerate(widths))


def make_world(
    sites: Sequence[LoraSite],
    ranks: Sequence[Sequence[int]],
    *,
    dora: Sequence[int] = (),
    dtype: torch.dtype = torch.float32,
    page_elements: int = 4096,
    device: str = "cpu",
    seed: int = 0,
    max_rank: int = 64,
) -> AdapterWorld:
    """Adapter i has rank ranks[i][w] at site w, 0 for none; those in `dora` are DoRA at every site."""
    elements = sum(
        rank * (site.in_features + site.out_features) + site.out_features + 64
        for row in ranks
        for rank, site in zip(row, sites, strict=True)
        if rank
    )
    num_pages = 4 * (elements // page_elements + 2)
    pool = torch.full((num_pages * page_elements,), torch.nan, dtype=dtype, device=device)
    world = AdapterWorld(RankRowTable(pool, sites, len(ranks), max_rank, page_elements))
    generator = torch.Generator().manual_seed(seed)
    pages = ScatteredPages(world.table, generator)
    for adapter, site_ranks in enumerate(ranks):
        write_adapter(world, pages, adapter, site_ranks, adapter in dora, generator)
    return world


def write_adapter(
    world: AdapterWorld,
    pages: ScatteredPages,
    adapter: int,
    ranks: Sequence[int],
    is_dora: bool,
    generator: torch.Generator,
) -> None:
    table = world.table
    written: list[SiteRows] = []
    dense: dict[int, DenseSite] = {}
    for site, rank in zip(table.sites, ranks, strict=True):
        if rank == 0:
            continue
        A_RK = torch.randn(rank, site.in_features, generator=generator).to(table.pool_E.dtype)
        B_RN = torch.randn(rank, site.out_features, generator=generator).to(table.pool_E.dtype)
        dora_N = (0.3 * torch.randn(site.out_features, generator=generator)).to(table.pool_E.dtype)
        scale = 0.25 + 0.5 * (adapter + 1) / rank
        written.append(
            SiteRows(
                site.index,
                rank,
                scale,
                pages.put_tiles(A_RK, table.a_rows[site.index]),
                pages.put_tiles(B_RN, table.b_rows[site.index]),
                pages.put(dora_N) if is_dora else NO_TILE,
            )
        )
        scale32 = float(torch.tensor(scale, dtype=torch.float32))
        dense[site.index] = DenseSite(
            A_RK.double(), B_RN.double(), scale32, dora_N.double() if is_dora else None
        )
    table.write(adapter, written)
    world.dense[adapter] = dense


@dataclass(frozen=True)
class Truth:
    """The exact result, and how large the terms are whose rounding it may differ by."""

    y_TN: Tensor
    magnitude_TN: Tensor


def true_result(
    world: AdapterWorld,
    y_TN: Tensor,
    x_TK: Tensor,
    sites: Sequence[LoraSite],
    segments: Segments,
    bias_N: Tensor | None,
) -> Truth:
    """Dense float64 arithmetic on the CPU, one segment at a time. For an embedding x_TK is one-hot."""
    x, y = x_TK.double().cpu(), y_TN.double().cpu()
    bias = torch.zeros(y.shape[1]) if bias_N is None else bias_N.double().cpu()
    result, magnitude = y.clone(), y.abs()
    for s, adapter in enumerate(segments.adapter_indices):
        rows = slice(segments.starts[s], segments.starts[s + 1])
        column = 0
        for site in sites:
            columns = slice(column, column + site.out_features)
            column += site.out_features
            dense = {} if adapter == BASE else world.dense[adapter]
            if site.index not in dense:
                continue
            one = dense[site.index]
            delta = one.scale * (x[rows] @ one.A_RK.T @ one.B_RN)
            size = one.scale * (x[rows].abs() @ one.A_RK.abs().T @ one.B_RN.abs())
            factor = torch.zeros(site.out_features) if one.dora_N is None else one.dora_N
            result[rows, columns] += delta + factor * (y[rows, columns] - bias[columns] + delta)
            magnitude[rows, columns] += size + factor.abs() * (
                y[rows, columns].abs() + bias[columns].abs() + size
            )
    return Truth(result, magnitude)


def assert_close(y_TN: Tensor, truth: Truth, num_terms: int) -> None:
    """|error| <= one rounding of y, `num_terms` of a sum in float32 and, in 16 bits, one of h."""
    eps = torch.finfo(y_TN.dtype).eps
    eps32 = torch.finfo(torch.float32).eps
    bound = (
        eps / 2 * truth.y_TN.abs() + (num_terms * eps32 + (eps if eps > eps32 else 0)) * truth.magnitude_TN
    )
    error = (y_TN.double().cpu() - truth.y_TN).abs()
    assert not torch.isnan(error).any(), "NaN: something outside the rank rows was read"
    worst = int((error - bound).argmax())
    excess = (error / bound.clamp_min(1e-30)).max()
    assert bool((error <= bound).all()), f"{float(excess):.2f} times the bound, worst at flat index {worst}"
