"""Weights of a few adapters side by side, as dense matrices that serve rows of any of them.

Must not know rows of a batch, nor when it is worth having one.

Legend: S adapters, W sites, K in features, n out features of one site, N summed over sites, R rank
rows of all S adapters at the sites that share an input, ordered by site, then adapter: true ranks,
no padding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.lora_site import LoraSite
from kernels.rank_row_table import NO_TILE, RankRowTable
from kernels.rank_rows import copy_rows, dora_row


@dataclass(frozen=True, slots=True)
class CompositionOperand:
    """float32 copies for the sites that share an input.

    A_RK has the scale folded in; for an embedding it is None and `a_offsets_R` finds the rows in the
    pool. B_Rn[i] holds the rows of the i-th site, `ranks[i]` of them. `owners_R` is each row's
    adapter. D_SN is DoRA's factor a member, with a last row of zeros; None if all are plain.
    """

    A_RK: Tensor | None
    a_offsets_R: Tensor
    scales_R: Tensor
    owners_R: Tensor
    B_Rn: tuple[Tensor, ...]
    D_SN: Tensor | None

    @property
    def num_bytes(self) -> int:
        """Memory held."""
        tensors = [self.A_RK, *self.B_Rn, self.D_SN]
        return sum(tensor.numel() * tensor.itemsize for tensor in tensors if tensor is not None)


class Composition:
    """The operands of `members`, each built on first use, of the weights they had when it was made.

    Must not be used once a member's generation has changed. `max_bytes` is what they take when all
    are built, `num_bytes` what they take now.
    """

    def __init__(self, table: RankRowTable, members: Sequence[int], max_bytes: int) -> None:
        self.members = tuple(members)
        self.max_bytes = max_bytes
        self.weights = weights_of(table, members)
        self.num_bytes = 0
        self._table = table
        self._operands: dict[tuple[int, ...], CompositionOperand] = {}
        self._index_rows(torch.tensor(self.members, device=table.pool_E.device))

    def _index_rows(self, members_S: Tensor) -> None:
        """Finds every rank row of every site at once: one row of these tensors each."""
        table = self._table
        ranks_SW = table.ranks_NW.index_select(0, members_S)
        counts = ranks_SW.t().flatten()
        cells = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
        ends = counts.cumsum(0)
        r = torch.arange(len(cells), device=counts.device) - (ends - counts)[cells]
        site, owner = cells // len(members_S), members_S[cells % len(members_S)]
        a_rows, b_rows, a_width, b_width = _site_numbers(table)
        offsets = table.offsets_NW2J
        self._a_offsets = offsets[owner, site, 0, r // a_rows[site]] + r % a_rows[site] * a_width[site]
        self._b_offsets = offsets[owner, site, 1, r // b_rows[site]] + r % b_rows[site] * b_width[site]
        self._scales, self._owners = table.scales_NW[owner, site], owner
        self._site_ends = [0, *ends[len(members_S) - 1 :: len(members_S)].tolist()]

    def operand(self, sites: Sequence[LoraSite]) -> CompositionOperand:
        """The operand for `sites`, which share an input."""
        key = tuple([site.index for site in sites])
        operand = self._operands.get(key)
        if operand is None:
            operand = self._operands[key] = self._build(sites)
            self.num_bytes += operand.num_bytes
        return operand

    def _build(self, sites: Sequence[LoraSite]) -> CompositionOperand:
        pool_E = self._table.pool_E
        a_offsets_R, scales_R, owners_R = (
            self._rows_at(x, sites) for x in (self._a_offsets, self._scales, self._owners)
        )
        A_RK = None
        if not sites[0].is_embedding:
            A_RK = copy_rows(pool_E, a_offsets_R, sites[0].in_features).mul_(scales_R[:, None])
        B_Rn = tuple(
            copy_rows(pool_E, self._rows_at(self._b_offsets, (site,)), site.out_features) for site in sites
        )
        return CompositionOperand(A_RK, a_offsets_R, scales_R, owners_R, B_Rn, self._dora_factors(sites))

    def _rows_at(self, x: Tensor, sites: Sequence[LoraSite]) -> Tensor:
        parts = [x[self._site_ends[site.index] : self._site_ends[site.index + 1]] for site in sites]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _dora_factors(self, sites: Sequence[LoraSite]) -> Tensor | None:
        found = [
            (s, i, rows)
            for s, member in enumerate(self.members)
            for i, site in enumerate(sites)
            if (rows := self._table.rows(member).get(site.index)) and rows.dora_offset != NO_TILE
        ]
        if not found:
            return None
        widths = [site.out_features for site in sites]
        D_SN = torch.zeros(len(self.members) + 1, sum(widths), device=self._table.pool_E.device)
        for s, i, rows in found:
            first = sum(widths[:i])
            D_SN[s, first : first + widths[i]] = dora_row(self._table, sites[i], rows)
        return D_SN


def _site_numbers(table: RankRowTable) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    device = table.pool_E.device
    numbers = (
        table.a_rows,
        table.b_rows,
        tuple(site.in_features for site in table.sites),
        tuple(site.out_features for site in table.sites),
    )
    a_rows, b_rows, a_width, b_width = (torch.tensor(x, device=device) for x in numbers)
    return a_rows, b_rows, a_width, b_width


def weights_of(table: RankRowTable, members: Sequence[int]) -> frozenset[tuple[int, int]]:
    """Names the members' present weights: (adapter index, generation)."""
    return frozenset((member, table.generation(member)) for member in members)


def composition_bytes(table: RankRowTable, members: Sequence[int]) -> int:
    """The most that all the operands of `members` take together."""
    widths = [(0 if site.is_embedding else site.in_features) + site.out_features for site in table.sites]
    rows = [(w, rows) for member in members for w, rows in table.rows(member).items()]
    num_elements = sum(rows.rank * widths[w] for w, rows in rows)
    if any(rows.dora_offset != NO_TILE for _, rows in rows):
        num_elements += (len(members) + 1) * sum(site.out_features for site in table.sites)
    return num_elements * torch.float32.itemsize
