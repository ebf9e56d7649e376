"""LoRA arithmetic in torch ops: the CPU's way, and right on any device.

Must not know models, nor how rows were put together.

A decode step on a CPU is bound by the number of torch ops (3 to 5 us each) and by the bytes of the
weights, not by arithmetic. So neighbouring runs of few rows are multiplied densely with all of
their adapters' weights, copied side by side once per set of adapters, and what a row has of other
adapters is cleared in between: one op for all adapters, true ranks, few rows wasted. Against it,
measured on a layer of 192 features with 8 adapters: a loop over adapters took 1.4 times as long, a
batched matmul padded to the largest rank 1.3 times. Runs of many rows read the pool's tiles in
place, as do runs whose weights are too large to copy. `python -m kernels.bench` prints figures.

Legend: T rows of the batch, K in features, N out features summed over sites, M rows of a bundle or
run, R rank rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels import tuning
from kernels.composition import Composition, CompositionOperand
from kernels.composition_cache import CompositionCache
from kernels.lora_site import LoraSite
from kernels.rank_row_table import NO_TILE, RankRowTable, SiteRows
from kernels.rank_rows import a_tiles, b_tiles, dora_row
from kernels.segment_bundle import Run, SegmentBundle, plan_bundles
from kernels.segments import Segments

ShrinkBundle = Callable[[slice, CompositionOperand], Tensor]
ShrinkRun = Callable[[Run, LoraSite, SiteRows], Tensor]


@dataclass(frozen=True, slots=True)
class _BundleWork:
    """Rows of the batch and the composition that serves them.

    `owners_M1` is each row's adapter, None if all rows are of the composition's one adapter;
    `positions_M` each row's place among the members, their number for base rows.
    """

    rows: slice
    composition: Composition
    owners_M1: Tensor | None
    positions_M: Tensor


@dataclass(frozen=True, slots=True)
class _Plan:
    """One step's split, good for as long as the segments and the table's weights are the same."""

    segments: Segments
    num_writes: int
    bundles: tuple[_BundleWork, ...]
    alone: tuple[Run, ...]


class TorchSgmv:
    """`Sgmv` in torch ops, float32 inside; copies up to `max_copied_bytes` of weights to be fast."""

    def __init__(self, table: RankRowTable, max_copied_bytes: int = tuning.MAX_COPIED_BYTES) -> None:
        self.table = table
        self.compositions = CompositionCache(
            table, max_copied_bytes, tuning.MAX_COMPOSITIONS, tuning.MAX_COMPOSITION_EXCESS
        )
        self._last_plan: _Plan | None = None

    def add_(
        self, y_TN: Tensor, x_TK: Tensor, sites: Sequence[LoraSite], segments: Segments, bias_N: Tensor | None
    ) -> None:
        """See `kernels.sgmv`."""

        def shrink_bundle(rows: slice, operand: CompositionOperand) -> Tensor:
            assert operand.A_RK is not None
            return x_TK[rows].float() @ operand.A_RK.t()

        def shrink_run(run: Run, site: LoraSite, rows: SiteRows) -> Tensor:
            x_MK = x_TK[run.start : run.stop].float()
            return _join([x_MK @ tile.float().t() for tile in a_tiles(self.table, site, rows)])

        self._add(y_TN, sites, segments, bias_N, shrink_bundle, shrink_run)

    def add_embedding_(self, y_TN: Tensor, token_ids_T: Tensor, site: LoraSite, segments: Segments) -> None:
        """See `kernels.sgmv`; token_ids_T is int64."""

        def shrink_bundle(rows: slice, operand: CompositionOperand) -> Tensor:
            elements_MR = operand.a_offsets_R + token_ids_T[rows, None]
            return self.table.pool_E.take(elements_MR).float() * operand.scales_R

        def shrink_run(run: Run, site: LoraSite, rows: SiteRows) -> Tensor:
            tokens_M = token_ids_T[run.start : run.stop]
            return _join([tile[:, tokens_M].t().float() for tile in a_tiles(self.table, site, rows)])

        self._add(y_TN, (site,), segments, None, shrink_bundle, shrink_run)

    def _add(
        self,
        y_TN: Tensor,
        sites: Sequence[LoraSite],
        segments: Segments,
        bias_N: Tensor | None,
        shrink_bundle: ShrinkBundle,
        shrink_run: ShrinkRun,
    ) -> None:
        plan = self._plan(segments)
        for work in plan.bundles:
            operand = work.composition.operand(sites)
            if len(operand.owners_R) > 0:
                _expand_bundle(y_TN[work.rows], shrink_bundle(work.rows, operand), work, operand, bias_N)
        for run in plan.alone:
            self._add_run(y_TN, sites, run, bias_N, shrink_run)

    def _plan(self, segments: Segments) -> _Plan:
        plan = self._last_plan
        if plan is None or plan.segments is not segments or plan.num_writes != self.table.num_writes:
            bundles, runs = plan_bundles(segments, tuning.MAX_BUNDLED_ROWS, tuning.MAX_BUNDLED_ADAPTERS)
            alone = list(runs)
            works: list[_BundleWork] = []
            for bundle in bundles:
                composition = self.compositions.find(bundle.members)
                if composition is None:
                    alone.extend(bundle.runs)
                else:
                    works.append(self._work(bundle, composition))
            plan = self._last_plan = _Plan(segments, self.table.num_writes, tuple(works), tuple(alone))
        return plan

    def _work(self, bundle: SegmentBundle, composition: Composition) -> _BundleWork:
        device = self.table.pool_E.device
        owners = bundle.owners()
        place = {member: s for s, member in enumerate(composition.members)}
        positions_M = torch.tensor([place.get(owner, len(place)) for owner in owners], device=device)
        is_of_one = len(place) == 1 and len(bundle.runs) == 1
        owners_M1 = None if is_of_one else torch.tensor(owners, device=device)[:, None]
        return _BundleWork(bundle.rows, composition, owners_M1, positions_M)

    def _add_run(
        self, y_TN: Tensor, sites: Sequence[LoraSite], run: Run, bias_N: Tensor | None, shrink: ShrinkRun
    ) -> None:
        column = 0
        for site in sites:
            columns = slice(column, column + site.out_features)
            rows = self.table.rows(run.adapter_index).get(site.index)
            if rows is not None:
                y_MN = y_TN[run.start : run.stop, columns]
                bias = None if bias_N is None else bias_N[columns]
                self._expand_run(y_MN, shrink(run, site, rows), site, rows, bias)
            column += site.out_features

    def _expand_run(
        self, y_MN: Tensor, h_MR: Tensor, site: LoraSite, rows: SiteRows, bias_N: Tensor | None
    ) -> None:
        z_MN = y_MN.float()
        rank = 0
        for tile in b_tiles(self.table, site, rows):
            z_MN.addmm_(h_MR[:, rank : rank + len(tile)], tile.float(), alpha=rows.scale)
            rank += len(tile)
        if rows.dora_offset != NO_TILE:
            _apply_dora(z_MN, dora_row(self.table, site, rows).float(), bias_N)
        if z_MN is not y_MN:
            y_MN.copy_(z_MN)


def _expand_bundle(
    y_MN: Tensor, h_MR: Tensor, work: _BundleWork, operand: CompositionOperand, bias_N: Tensor | None
) -> None:
    if work.owners_M1 is not None:
        h_MR.masked_fill_(work.owners_M1 != operand.owners_R, 0)
    z_MN = y_MN.float()
    rank, column = 0, 0
    for B_Rn in operand.B_Rn:
        num_rows, width = B_Rn.shape
        if num_rows > 0:
            z_MN[:, column : column + width].addmm_(h_MR[:, rank : rank + num_rows], B_Rn)
        rank, column = rank + num_rows, column + width
    if operand.D_SN is not None:
        _apply_dora(z_MN, operand.D_SN.index_select(0, work.positions_M), bias_N)
    if z_MN is not y_MN:
        y_MN.copy_(z_MN)


def _apply_dora(z_MN: Tensor, factor: Tensor, bias_N: Tensor | None) -> None:
    z_MN.addcmul_(z_MN if bias_N is None else z_MN - bias_N.float(), factor)


def _join(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
