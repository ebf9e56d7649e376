"""Chooses who does the LoRA arithmetic on a device.

Must not know models.
"""

from kernels.rank_row_table import RankRowTable
from kernels.sgmv import Sgmv
from kernels.sgmv_torch import TorchSgmv


def make_sgmv(table: RankRowTable) -> Sgmv:
    """Triton kernels where the pool is on a CUDA device, torch ops elsewhere."""
    if table.pool_E.is_cuda:
        from kernels.sgmv_triton import TritonSgmv

        return TritonSgmv(table)
    return TorchSgmv(table)
