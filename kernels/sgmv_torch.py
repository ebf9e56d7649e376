"""LoRA arithmetic in torch ops: the CPU's way, and right on any device.

Must not know models, nor how rows were put together.

A decode step on a CPU is bound by the number of torch ops (3 to 5 us each), not by arithmetic, so
runs of few rows are served by two batched matmuls a site group, over weights copied side by side
once per composition of the batch. A batched matmul does the same arithmetic for eight adapters as
for one; the alternative, one dense matmul of all rows with all adapters and a mask, does S times
as much and measured 2 to 6 times slower from 8 adapters on. Runs of many rows read the pool's
tiles in place, as do runs whose weights would be too large to copy. `python -m kernels.bench`
prints the figures.

Legend: T rows of the batch, K in features, N out features summed over sites, S runs of a bundle,
M rows a run is padded to, R rank rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels import tuning
from kernels.bundle_operands import BundleOperand, BundleOperandCache, Composition
from kernels.lora_site import LoraSite
from kernels.rank_row_table import NO_TILE, RankRowTable, SiteRows
from kernels.rank_rows import a_row_offsets, a_tiles, b_tiles, dead_rows, dora_row
from kernels.segment_bundle import Run, SegmentBundle, plan_bundles
from kernels.segments import Segments

ShrinkBundle = Callable[[SegmentBundle, Composition, BundleOperand], Tensor]
ShrinkRun = Callable[[Run, LoraSite, SiteRows], Tensor]


@dataclass(frozen=True, slots=True)
class _Plan:
    """One step's split, good for as long as the segments and the table's weights are the same."""

    segments: Segments
    num_writes: int
    bundles: tuple[tuple[SegmentBundle, Composition], ...]
    alone: tuple[Run, ...]


class TorchSgmv:
    """`Sgmv` in torch ops, float32 inside; copies up to `max_copied_bytes` of weights to be fast.

    Batches whose rows are ordered by adapter hit those copies most often.
    """

    def __init__(self, table: RankRowTable, max_copied_bytes: int = tuning.MAX_COPIED_BYTES) -> None:
        self.table = table
        self.operands = BundleOperandCache(table, max_copied_bytes)
        self._last_plan: _Plan | None = None

    def add_(
        self, y_TN: Tensor, x_TK: Tensor, sites: Sequence[LoraSite], segments: Segments, bias_N: Tensor | None
    ) -> None:
        """See `kernels.sgmv`; y_TN is contiguous."""

        def shrink_bundle(bundle: SegmentBundle, _: Composition, operand: BundleOperand) -> Tensor:
            assert operand.A_SKR is not None
            return torch.bmm(bundle.gather(x_TK).float(), operand.A_SKR)

        def shrink_run(run: Run, site: LoraSite, rows: SiteRows) -> Tensor:
            x_MK = x_TK[run.start : run.stop].float()
            return _join([x_MK @ tile.float().t() for tile in a_tiles(self.table, site, rows)])

        self._add(y_TN, sites, segments, bias_N, shrink_bundle, shrink_run)

    def add_embedding_(self, y_TN: Tensor, token_ids_T: Tensor, site: LoraSite, segments: Segments) -> None:
        """See `kernels.sgmv`; token_ids_T is int64."""

        def shrink_bundle(bundle: SegmentBundle, composition: Composition, operand: BundleOperand) -> Tensor:
            num_rows = operand.B_SRN.shape[1]
            columns_SM1 = bundle.gather(token_ids_T[:, None])
            offsets_S1R = a_row_offsets(self.table, composition.adapters_S, site, num_rows)[:, None]
            dead_S1R = dead_rows(self.table, composition.adapters_S, site, num_rows)[:, None]
            h_SMR = self.table.pool_E.take((offsets_S1R + columns_SM1).masked_fill(dead_S1R, 0))
            return h_SMR.float().masked_fill(dead_S1R, 0)

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
        alone = list(plan.alone)
        for bundle, composition in plan.bundles:
            operand = self.operands.operand(composition, sites)
            if operand is None:
                alone.extend(bundle.runs)
            elif operand.num_bytes > 0:
                _expand_bundle(y_TN, shrink_bundle(bundle, composition, operand), bundle, operand, bias_N)
        for run in alone:
            self._add_run(y_TN, sites, run, bias_N, shrink_run)

    def _plan(self, segments: Segments) -> _Plan:
        plan = self._last_plan
        if plan is None or plan.segments is not segments or plan.num_writes != self.table.num_writes:
            split = plan_bundles(
                segments, tuning.MAX_BUNDLED_ROWS, tuning.MAX_BUNDLE_PADDING, self.table.pool_E.device
            )
            bundles = tuple((bundle, self.operands.composition(bundle.members)) for bundle in split.bundles)
            plan = self._last_plan = _Plan(segments, self.table.num_writes, bundles, split.alone)
        return plan

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
    y_TN: Tensor, h_SMR: Tensor, bundle: SegmentBundle, operand: BundleOperand, bias_N: Tensor | None
) -> None:
    z_SMN = bundle.gather(y_TN).float()
    z_SMN.baddbmm_(h_SMR, operand.B_SRN)
    if operand.D_S1N is not None:
        _apply_dora(z_SMN, operand.D_S1N, bias_N)
    if not (bundle.is_even and y_TN.dtype == torch.float32):
        bundle.scatter_(y_TN, z_SMN)


def _apply_dora(z: Tensor, factor: Tensor, bias_N: Tensor | None) -> None:
    z.addcmul_(z if bias_N is None else z - bias_N.float(), factor)


def _join(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
