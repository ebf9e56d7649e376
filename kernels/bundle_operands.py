"""Weights of a bundle's adapters side by side, ready for one batched matmul, kept between steps.

Must not know rows of a batch. A copy can never be stale: it is found by the generation that the
RankRowTable gave each adapter's weights.

Legend: S adapters of the bundle, K in features, N out features summed over sites, R rank rows
summed over sites (each site padded to the largest rank among the S).
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kernels.lora_site import LoraSite
from kernels.rank_row_table import NO_TILE, RankRowTable
from kernels.rank_rows import a_row_offsets, b_row_offsets, copy_rows, dead_rows, dora_row


@dataclass(frozen=True, slots=True)
class BundleOperand:
    """float32 copies for the sites that share an input.

    B_SRN has the scale folded in and is zero outside a site's own columns. A_SKR is None for an
    embedding. D_S1N is DoRA's factor, zero for plain adapters, None if all are plain.
    """

    A_SKR: Tensor | None
    B_SRN: Tensor
    D_S1N: Tensor | None

    @property
    def num_bytes(self) -> int:
        """Memory held."""
        tensors = (self.A_SKR, self.B_SRN, self.D_S1N)
        return sum(tensor.numel() * tensor.itemsize for tensor in tensors if tensor is not None)


@dataclass(eq=False, slots=True)
class Composition:
    """The operands of one list of adapters, by the indices of the sites that share an input."""

    members: tuple[int, ...]
    adapters_S: Tensor
    operands: dict[tuple[int, ...], BundleOperand | None] = field(default_factory=dict)
    num_bytes: int = 0


class BundleOperandCache:
    """The most recently used compositions, `max_bytes` of copies at most.

    One composition may take half of that; what is larger is not copied at all.
    """

    def __init__(self, table: RankRowTable, max_bytes: int) -> None:
        self._table = table
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._compositions: OrderedDict[tuple[tuple[int, int], ...], Composition] = OrderedDict()

    def __repr__(self) -> str:
        return f"BundleOperandCache(compositions={len(self._compositions)}, num_bytes={self._num_bytes})"

    def check_integrity(self) -> None:
        """Raises AssertionError unless the bytes counted are the bytes held, within the limit."""
        for composition in self._compositions.values():
            held = sum(operand.num_bytes for operand in composition.operands.values() if operand is not None)
            assert composition.num_bytes == held, f"{composition.num_bytes} bytes counted, {held} held"
        assert self._num_bytes == sum(c.num_bytes for c in self._compositions.values()), repr(self)
        assert self._num_bytes <= self._max_bytes or len(self._compositions) == 1, repr(self)

    def composition(self, members: tuple[int, ...]) -> Composition:
        """The composition of these adapters' present weights, made the most recently used."""
        key = tuple((member, self._table.generation(member)) for member in members)
        found = self._compositions.get(key)
        if found is None:
            found = Composition(members, torch.tensor(members, device=self._table.pool_E.device))
            self._compositions[key] = found
        self._compositions.move_to_end(key)
        return found

    def operand(self, composition: Composition, sites: Sequence[LoraSite]) -> BundleOperand | None:
        """The operand for `sites`, built on first use; None if it is too large to copy."""
        key = tuple([site.index for site in sites])
        if key not in composition.operands:
            composition.operands[key] = self._build(composition, sites)
        return composition.operands[key]

    def _build(self, composition: Composition, sites: Sequence[LoraSite]) -> BundleOperand | None:
        ranks = [self._max_rank(composition.members, site) for site in sites]
        features = (0 if sites[0].is_embedding else sites[0].in_features) + sum(s.out_features for s in sites)
        num_bytes = len(composition.members) * sum(ranks) * features * torch.float32.itemsize
        if num_bytes * 2 * len(self._table.sites) > self._max_bytes * len(sites):
            return None
        operand = build_operand(self._table, composition, sites, ranks)
        composition.num_bytes += operand.num_bytes
        self._num_bytes += operand.num_bytes
        self._evict()
        return operand

    def _max_rank(self, members: tuple[int, ...], site: LoraSite) -> int:
        rows = (self._table.rows(member).get(site.index) for member in members)
        return max(row.rank if row is not None else 0 for row in rows)

    def _evict(self) -> None:
        while self._num_bytes > self._max_bytes and len(self._compositions) > 1:
            _, composition = self._compositions.popitem(last=False)
            self._num_bytes -= composition.num_bytes


def build_operand(
    table: RankRowTable, composition: Composition, sites: Sequence[LoraSite], ranks: Sequence[int]
) -> BundleOperand:
    """Copies the rank rows of `sites` out of the pool; `ranks` are the rows to keep a site."""
    adapters_S = composition.adapters_S
    shape = (len(composition.members), sum(ranks))
    B_SRN = torch.zeros((*shape, sum(site.out_features for site in sites)), device=table.pool_E.device)
    A_parts: list[Tensor] = []
    row, column = 0, 0
    for site, rank in zip(sites, ranks, strict=True):
        dead_SR = dead_rows(table, adapters_S, site, rank)
        if not site.is_embedding:
            offsets_SR = a_row_offsets(table, adapters_S, site, rank)
            A_parts.append(copy_rows(table.pool_E, offsets_SR, dead_SR, site.in_features).float())
        offsets_SR = b_row_offsets(table, adapters_S, site, rank)
        scale_S11 = table.scales_NW[:, site.index].index_select(0, adapters_S)[:, None, None]
        B_SRn = copy_rows(table.pool_E, offsets_SR, dead_SR, site.out_features).float() * scale_S11
        B_SRN[:, row : row + rank, column : column + site.out_features] = B_SRn
        row, column = row + rank, column + site.out_features
    A_SKR = torch.cat(A_parts, dim=1).transpose(1, 2) if A_parts else None
    return BundleOperand(A_SKR, B_SRN, _dora_factors(table, composition.members, sites))


def _dora_factors(table: RankRowTable, members: Sequence[int], sites: Sequence[LoraSite]) -> Tensor | None:
    D_S1N = torch.zeros(len(members), 1, sum(site.out_features for site in sites), device=table.pool_E.device)
    has_dora = False
    column = 0
    for site in sites:
        for s, member in enumerate(members):
            rows = table.rows(member).get(site.index)
            if rows is not None and rows.dora_offset != NO_TILE:
                D_S1N[s, 0, column : column + site.out_features] = dora_row(table, site, rows)
                has_dora = True
        column += site.out_features
    return D_S1N if has_dora else None
