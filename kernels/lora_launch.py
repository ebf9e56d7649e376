"""What the launches of one step's fused LoRA kernels share.

Must not know what a kernel computes.

Legend: P splits, T rows, X rank rows of a group of sites side by side.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

from kernels.lora_site import TILE_ROWS, LoraSite
from kernels.operand import operand
from kernels.rank_row_table import RankRowTable
from kernels.row_tiles import RowTiles
from kernels.tuning import FusedTiles

_SPLIT_ALIGNMENT = 4


@dataclass(frozen=True, slots=True)
class Shrunk:
    """h of a group of sites, float32: the first `num_splits` of h_TXP[t, x] add up to it.

    Splits lie side by side, so that whoever reads h reads whole lines.
    """

    h_TXP: Tensor
    num_splits: int


@dataclass(frozen=True, slots=True)
class LoraLaunch:
    """Ranks of the adapters in `row_tiles` are at most `rank_capacity`.

    `num_programs` bounds a kernel's grid. With `uses_pdl` a kernel begins before the one before has
    ended, which needs compute capability 9.0.
    """

    table: RankRowTable
    row_tiles: RowTiles
    rank_capacity: int
    tiles: FusedTiles
    num_programs: int
    uses_pdl: bool
    is_interpreted: bool

    def grid(self, parts_a_tile: int) -> tuple[int]:
        """Programs for a kernel that cuts each row tile's work in that many parts."""
        return (min(self.num_programs, len(self.row_tiles.tiles_W3) * parts_a_tile),)

    def scratch(self, num_splits: int, num_rows: int, num_sites: int) -> Shrunk:
        """Room for h; a site has rank_capacity columns."""
        # What is read in pieces of 16 bytes starts on 16 bytes.
        stride = -(-num_splits // _SPLIT_ALIGNMENT) * _SPLIT_ALIGNMENT
        shape = (num_rows, num_sites * self.rank_capacity, stride)
        return Shrunk(torch.empty(shape, dtype=torch.float32, device=self.table.pool_E.device), num_splits)

    def table_arguments(self) -> tuple[Tensor | int, ...]:
        """What a kernel knows of the table, in the order of kernels.lora_tile's tuples."""
        table = self.table
        pointers = (table.ranks_NW, table.scales_NW, table.offsets_NW2J, table.dora_offsets_NW)
        return (*pointers, len(table.sites), table.offsets_NW2J.shape[-1])

    def constants(self, sites: Sequence[LoraSite], other: Tensor) -> dict[str, Any]:
        """How the kernels read rank rows of `sites`, to multiply them with rows in other's dtype."""
        dtype = operand(other.dtype, self.table.pool_E.dtype, self.is_interpreted)
        return {**self.row_constants(sites), "OPERAND": dtype}

    def row_constants(self, sites: Sequence[LoraSite]) -> dict[str, Any]:
        """How they read them to multiply them with single rows."""
        table, itemsize = self.table, self.table.pool_E.itemsize
        rows = [rows[site.index] for site in sites for rows in (table.a_rows, table.b_rows)]
        widths = [width for site in sites for width in (site.in_features, site.out_features)]
        is_aligned = all(width * itemsize % 16 == 0 for width in widths)
        return {
            "TILE_R": TILE_ROWS,
            "IS_WHOLE": min(rows) == TILE_ROWS,
            "ALIGN": 16 // itemsize if is_aligned else 1,
        }

    def options(self, num_warps: int, max_registers: int | None = None) -> dict[str, Any]:
        """Launch options; loops are not pipelined, since nearly all go round once."""
        options: dict[str, Any] = {"PDL": self.uses_pdl, "num_warps": num_warps, "num_stages": 1}
        if self.uses_pdl:
            options["launch_pdl"] = True
        if max_registers is not None:
            options["maxnreg"] = max_registers
        return options


def power_of_two(number: int) -> int:
    """The next one, or `number` itself."""
    return int(triton.next_power_of_2(number))
