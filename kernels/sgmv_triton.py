"""LoRA arithmetic by two Triton launches a site group: shrink, then expand.

Must not know models, nor how kernels do it. Runs on CUDA, or anywhere under Triton's interpreter.

Legend: T rows, K in features, N out features summed over sites, P splits of K, R rank rows.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels import tuning
from kernels.expand import expand_kernel
from kernels.lora_site import TILE_ROWS, LoraSite
from kernels.operand import operand
from kernels.rank_row_table import RankRowTable
from kernels.row_tiles import RowTiles, make_row_tiles
from kernels.segments import BASE, Segments
from kernels.shrink import shrink_embedding_kernel, shrink_kernel
from kernels.site_group import SiteGroup, make_site_group


def rank_capacity(rank: int) -> int:
    """Ranks that kernels compiled to serve `rank` have room for: a power of two, whole tiles."""
    return max(TILE_ROWS, triton.next_power_of_2(rank)) if rank else 0


@dataclass(frozen=True, slots=True)
class LoraStep:
    """What the launches of one step share; `rank_capacity` is the scratch's width a site."""

    segments: Segments
    num_writes: int
    row_tiles: RowTiles
    rank_capacity: int


class TritonSgmv:
    """`Sgmv` whose work is bounded by live segments and true ranks.

    float32, bfloat16 or float16 for x, y and the pool, alike or mixed; sums in float32. In 16 bits h
    is rounded once to the pool's dtype, as in PEFT. The pool and every tile are 16-byte aligned.
    """

    def __init__(self, table: RankRowTable) -> None:
        self.table = table
        self._is_interpreted = not isinstance(shrink_kernel, triton.JITFunction)
        self._groups: dict[tuple[int, ...], SiteGroup] = {}
        self._last_step: LoraStep | None = None
        self._prepared: list[LoraStep] = []

    def add_(
        self, y_TN: Tensor, x_TK: Tensor, sites: Sequence[LoraSite], segments: Segments, bias_N: Tensor | None
    ) -> None:
        """See `kernels.sgmv`; the last dimension of y_TN and x_TK has stride 1."""
        step = self.step(segments)
        if step.rank_capacity == 0:
            return
        group = self._group(sites)
        h_PTR = self._shrink(x_TK, group, step)
        self._expand(y_TN, h_PTR, group, step, bias_N)

    def add_embedding_(self, y_TN: Tensor, token_ids_T: Tensor, site: LoraSite, segments: Segments) -> None:
        """See `kernels.sgmv`; token_ids_T is contiguous int64 or int32."""
        step = self.step(segments)
        if step.rank_capacity == 0:
            return
        group = self._group((site,))
        h_PTR = self._scratch(1, len(token_ids_T), group, step)
        shrink_embedding_kernel[(len(step.row_tiles.tiles_W3),)](
            h_PTR,
            token_ids_T,
            self.table.pool_E,
            step.row_tiles.tiles_W3,
            group.sites_G5,
            self.table.ranks_NW,
            self.table.offsets_NW2J,
            site.in_features,
            len(self.table.sites),
            self.table.offsets_NW2J.shape[-1],
            RANKS=step.rank_capacity,
            TILE_M=step.row_tiles.tile_rows,
        )
        self._expand(y_TN, h_PTR, group, step, None)

    def step(self, segments: Segments) -> LoraStep:
        """The work list of `segments`, the same until the next step or change of the table."""
        for prepared in self._prepared:
            if prepared.segments is segments:
                return prepared
        step = self._last_step
        if step is None or step.segments is not segments or step.num_writes != self.table.num_writes:
            adapters = {index for index in segments.adapter_indices if index != BASE}
            capacity = rank_capacity(self.table.max_live_rank(adapters))
            tile_rows = tuning.row_tile(segments.starts[-1], len(segments.adapter_indices))
            row_tiles = make_row_tiles(segments, tile_rows, self.table.pool_E.device)
            step = self._last_step = LoraStep(segments, self.table.num_writes, row_tiles, capacity)
        return step

    @contextmanager
    def prepared(self, segments: Segments, row_tiles: RowTiles, rank_capacity: int) -> Iterator[None]:
        """Meanwhile launches for `segments` read `row_tiles`, whatever these hold when a launch runs.

        For CUDA graphs: of `segments` only the identity matters, and several may be prepared at once.
        Ranks of the adapters that `row_tiles` will name are at most `rank_capacity`.
        """
        self._prepared.append(LoraStep(segments, self.table.num_writes, row_tiles, rank_capacity))
        try:
            yield
        finally:
            self._prepared.pop()

    def _shrink(self, x_TK: Tensor, group: SiteGroup, step: LoraStep) -> Tensor:
        num_splits = tuning.num_shrink_splits(group.in_features)
        split_features = -(-group.in_features // num_splits)
        split_features = -(-split_features // tuning.SHRINK_TILE_K) * tuning.SHRINK_TILE_K
        h_PTR = self._scratch(num_splits, len(x_TK), group, step)
        num_rank_tiles = group.num_sites * (step.rank_capacity // TILE_ROWS)
        shrink_kernel[(len(step.row_tiles.tiles_W3), num_rank_tiles, num_splits)](
            h_PTR,
            x_TK,
            self.table.pool_E,
            step.row_tiles.tiles_W3,
            group.sites_G5,
            self.table.ranks_NW,
            self.table.offsets_NW2J,
            group.in_features,
            x_TK.stride(0),
            h_PTR.stride(0),
            h_PTR.stride(1),
            len(self.table.sites),
            self.table.offsets_NW2J.shape[-1],
            split_features,
            RANKS=step.rank_capacity,
            TILE_M=step.row_tiles.tile_rows,
            TILE_K=tuning.SHRINK_TILE_K,
            TILE_R=TILE_ROWS,
            ALIGN=self._alignment(group),
            OPERAND=self._operand(x_TK),
        )
        return h_PTR

    def _expand(
        self, y_TN: Tensor, h_PTR: Tensor, group: SiteGroup, step: LoraStep, bias_N: Tensor | None
    ) -> None:
        num_tiles, num_columns = len(step.row_tiles.tiles_W3), len(group.columns_C2)
        expand_kernel[(num_tiles, tuning.num_expand_programs(num_tiles, num_columns))](
            y_TN,
            h_PTR,
            self.table.pool_E,
            y_TN if bias_N is None else bias_N,
            step.row_tiles.tiles_W3,
            group.sites_G5,
            group.columns_C2,
            self.table.ranks_NW,
            self.table.scales_NW,
            self.table.offsets_NW2J,
            self.table.dora_offsets_NW,
            y_TN.stride(0),
            h_PTR.stride(0),
            h_PTR.stride(1),
            len(self.table.sites),
            self.table.offsets_NW2J.shape[-1],
            num_columns,
            NUM_SITES=group.num_sites,
            RANKS=step.rank_capacity,
            NUM_SPLITS=len(h_PTR),
            HAS_BIAS=bias_N is not None,
            TILE_M=step.row_tiles.tile_rows,
            TILE_N=tuning.EXPAND_TILE_N,
            TILE_R=TILE_ROWS,
            ALIGN=self._alignment(group),
            OPERAND=self._operand(y_TN),
        )

    def _scratch(self, num_splits: int, num_rows: int, group: SiteGroup, step: LoraStep) -> Tensor:
        shape = (num_splits, num_rows, group.num_sites * step.rank_capacity)
        return torch.empty(shape, dtype=torch.float32, device=self.table.pool_E.device)

    def _group(self, sites: Sequence[LoraSite]) -> SiteGroup:
        key = tuple([site.index for site in sites])
        if key not in self._groups:
            self._groups[key] = make_site_group(self.table, sites, tuning.EXPAND_TILE_N)
        return self._groups[key]

    def _alignment(self, group: SiteGroup) -> int:
        return 16 // self.table.pool_E.itemsize if group.is_aligned else 1

    def _operand(self, other: Tensor) -> tl.dtype:
        return operand(other.dtype, self.table.pool_E.dtype, self._is_interpreted)
