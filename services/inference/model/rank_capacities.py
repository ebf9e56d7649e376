"""Ranks that graphs are captured for, and which of them a step needs.

Must not know graphs.
"""

from collections.abc import Sequence

from kernels.lora_site import TILE_ROWS
from kernels.rank_row_table import RankRowTable
from kernels.segments import BASE
from kernels.sgmv_triton import rank_capacity
from services.inference.batch import Slice

NO_LORA = 0


class RankCapacities:
    """None, a tile's and the largest that is served; NO_LORA means that every row is a base row."""

    def __init__(self, table: RankRowTable) -> None:
        self._table = table
        self.all = tuple(sorted({NO_LORA, TILE_ROWS, rank_capacity(table.max_rank)}))

    def least(self, slices: Sequence[Slice]) -> int:
        """The smallest that has room for every adapter of `slices`."""
        rank = self._table.max_live_rank({part.adapter_index for part in slices} - {BASE})
        return next(capacity for capacity in self.all if capacity >= rank)
