"""LoRA arithmetic in torch ops: the CPU's way, and right on any device.

Must not know models, nor how rows were put together.

A decode step on a CPU is bound by the bytes of the weights and by the number of torch ops (3 us each,
10 us where streamed weights have driven them out of the cache). So every row of a short run sums just
the rank rows that are its own, by torch.embedding_bag: two such sums serve all rows, adapters, ranks
and sites that share an input; nothing is padded but A to tiles of 16, and a row's result depends on no
other's. Measured for 8 adapters in 8 rows, 192 to 320 features, the weights of 24 layers in turn:
shrink and expand 37 us; batched matmuls padded to the largest rank 168 us; dense matmuls of all rows
with the true rank rows of all adapters 114 us. Long runs, whose arithmetic is worth a matmul, read the
pool's tiles in place, as do adapters whose weights are too large to copy. `python -m kernels.bench`
prints figures.

Legend: T rows of the batch, K in features, N out features summed over sites, M rows served here, X
numbers of h, R rank rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kernels import tuning
from kernels.lora_site import LoraSite
from kernels.rank_row_table import NO_TILE, RankRowTable, SiteRows
from kernels.rank_rows import a_tiles, b_tiles, dora_row
from kernels.row_bags import RowBags, Shapes, make_row_bags
from kernels.row_runs import Run, split_runs, split_spans
from kernels.segments import BASE, Segments
from kernels.weight_copies import LANES, AdapterCopy, WeightCopies

ShrinkBagged = Callable[[RowBags], Tensor]
ShrinkRun = Callable[[Run, LoraSite, SiteRows], Tensor]
_PlanKey = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class _Plan:
    """How one composition of the batch is served, good for its adapters' weights and copies of now."""

    spans: list[list[Run]]
    alone: tuple[Run, ...]
    copies: dict[int, AdapterCopy]
    num_clears: int
    shapes: Shapes = field(default_factory=dict)
    bags: dict[tuple[int, ...], list[RowBags]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Step:
    """The plan found last, so that a step looks for it once."""

    segments: Segments
    num_writes: int
    plan: _Plan


class TorchSgmv:
    """`Sgmv` in torch ops, float32 inside; copies up to `max_copied_bytes` of weights to be fast."""

    def __init__(self, table: RankRowTable, max_copied_bytes: int = tuning.MAX_COPIED_BYTES) -> None:
        self.table = table
        self.copies = WeightCopies(table, max_copied_bytes)
        self._plans: dict[_PlanKey, _Plan] = {}
        self._step: _Step | None = None

    def add_(
        self, y_TN: Tensor, x_TK: Tensor, sites: Sequence[LoraSite], segments: Segments, bias_N: Tensor | None
    ) -> None:
        """See `kernels.sgmv`."""

        def shrink_bagged(bags: RowBags) -> Tensor:
            x_UK = x_TK.float().index_select(0, bags.shape.x_rows_U)
            A_xL = self.copies.rows(LANES)
            h_UL = _sum_rows(A_xL, bags.a_indices, bags.shape.offsets_U, x_UK.view(-1))
            return h_UL.take(bags.shape.h_indices_X)

        def shrink_run(run: Run, site: LoraSite, rows: SiteRows) -> Tensor:
            x_MK = x_TK[run.start : run.stop].float()
            return _join([x_MK @ tile.float().t() for tile in a_tiles(self.table, site, rows)])

        self._add(y_TN, sites, segments, bias_N, shrink_bagged, shrink_run)

    def add_embedding_(self, y_TN: Tensor, token_ids_T: Tensor, site: LoraSite, segments: Segments) -> None:
        """See `kernels.sgmv`; token_ids_T is int64."""

        def shrink_bagged(bags: RowBags) -> Tensor:
            reads = bags.embedding
            assert reads is not None
            columns_X = token_ids_T.index_select(0, reads.token_rows_X)
            return self.table.pool_E.take(reads.a_offsets_X + columns_X).float()

        def shrink_run(run: Run, site: LoraSite, rows: SiteRows) -> Tensor:
            tokens_M = token_ids_T[run.start : run.stop]
            return _join([tile[:, tokens_M].t().float() for tile in a_tiles(self.table, site, rows)])

        self._add(y_TN, (site,), segments, None, shrink_bagged, shrink_run)

    def _add(
        self,
        y_TN: Tensor,
        sites: Sequence[LoraSite],
        segments: Segments,
        bias_N: Tensor | None,
        shrink_bagged: ShrinkBagged,
        shrink_run: ShrinkRun,
    ) -> None:
        plan = self._plan(segments)
        key = tuple([site.index for site in sites])
        if key not in plan.bags:
            spans = [self._make_bags(plan, span, sites) for span in plan.spans]
            plan.bags[key] = [bags for bags in spans if bags is not None]
        for bags in plan.bags[key]:
            self._expand_bagged(y_TN, shrink_bagged(bags), bags, bias_N)
        for run in plan.alone:
            self._add_run(y_TN, sites, run, bias_N, shrink_run)

    def _make_bags(self, plan: _Plan, span: list[Run], sites: Sequence[LoraSite]) -> RowBags | None:
        groups = [self.copies.group(plan.copies[run.adapter_index], sites) for run in span]
        return make_row_bags(self.table, span, groups, sites, plan.shapes)

    def _plan(self, segments: Segments) -> _Plan:
        """The plan of `segments`; those of the last few compositions are kept."""
        step, num_writes = self._step, self.table.num_writes
        if step is not None and step.segments is segments and step.num_writes == num_writes:
            return step.plan
        weights = tuple([self.table.generation(index) for index in segments.adapter_indices if index != BASE])
        key = (segments.starts, segments.adapter_indices, weights)
        plan = self._plans.pop(key, None)
        if plan is None or plan.num_clears != self.copies.num_clears:
            plan = self._make_plan(segments)
        self._plans[key] = plan
        if len(self._plans) > tuning.MAX_PLANS:
            del self._plans[next(iter(self._plans))]
        self._step = _Step(segments, num_writes, plan)
        return plan

    def _make_plan(self, segments: Segments) -> _Plan:
        runs = split_runs(segments, tuning.MAX_BAGGED_ROWS)
        copies = self.copies.copy({run.adapter_index for run in runs.short})
        bagged = [run for run in runs.short if run.adapter_index in copies]
        in_place = tuple(run for run in runs.short if run.adapter_index not in copies)
        spans = split_spans(bagged, tuning.MAX_BAGGED_GAP)
        return _Plan(spans, (*in_place, *runs.long), copies, self.copies.num_clears)

    def _expand_bagged(self, y_TN: Tensor, h_X: Tensor, bags: RowBags, bias_N: Tensor | None) -> None:
        z_MN = y_TN[bags.rows].float()
        B_xn = self.copies.rows(bags.width)
        delta_Zn = _sum_rows(B_xn, bags.b_indices_X, bags.shape.offsets_Z, h_X)
        z_MN.add_(delta_Zn.view(-1, y_TN.shape[1]))
        if bags.D_MN is not None:
            _apply_dora(z_MN, bags.D_MN, bias_N)
        if y_TN.dtype != torch.float32:
            y_TN[bags.rows] = z_MN

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


def _sum_rows(matrix: Tensor, indices: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
    """Sum i of rows `indices[offsets[i]:offsets[i + 1]]` of `matrix`, each times its weight."""
    return torch.embedding_bag(matrix, indices, offsets, per_sample_weights=weights)[0]


def _apply_dora(z_MN: Tensor, factor: Tensor, bias_N: Tensor | None) -> None:
    z_MN.addcmul_(z_MN if bias_N is None else z_MN - bias_N.float(), factor)


def _join(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
