"""Lays out a step's fused LoRA kernels: which tiles, sizes and launch options its launches share.

Must not know models, nor what a kernel computes.
"""

import torch
import triton

from kernels import tuning
from kernels.lora_launch import LoraLaunch
from kernels.lora_site import TILE_ROWS
from kernels.norm_shrink import norm_shrink_kernel
from kernels.segments import Segments
from kernels.sgmv_triton import TritonSgmv

_PDL_CAPABILITY = (9, 0)
_INTERPRETED_PROGRAMS = 4


class FusedLora:
    """The steps of `sgmv`, for kernels that do LoRA arithmetic beside the pointwise work.

    `num_programs` bounds the grid of a kernel. `uses_pdl` is programmatic dependent launch.
    """

    def __init__(self, sgmv: TritonSgmv, num_programs: int, uses_pdl: bool) -> None:
        self._sgmv = sgmv
        self._num_programs = num_programs
        self._uses_pdl = uses_pdl
        self._is_interpreted = not isinstance(norm_shrink_kernel, triton.JITFunction)

    def launch(self, segments: Segments) -> LoraLaunch:
        """What the launches of a step share; of prepared `segments`, what was prepared."""
        step = self._sgmv.step(segments)
        return LoraLaunch(
            table=self._sgmv.table,
            row_tiles=step.row_tiles,
            # Adapters without any weights still have rows to be computed.
            rank_capacity=max(TILE_ROWS, step.rank_capacity),
            tiles=tuning.fused_tiles(step.row_tiles.tile_rows),
            num_programs=self._num_programs,
            uses_pdl=self._uses_pdl,
            is_interpreted=self._is_interpreted,
        )


def make_fused_lora(sgmv: TritonSgmv) -> FusedLora:
    """For the device of sgmv's pool; programmatic dependent launch where the device has it."""
    device = sgmv.table.pool_E.device
    if device.type != "cuda":
        return FusedLora(sgmv, _INTERPRETED_PROGRAMS, uses_pdl=False)
    num_programs = torch.cuda.get_device_properties(device).multi_processor_count * tuning.FUSED_PROGRAMS_A_SM
    has_pdl = torch.cuda.get_device_capability(device) >= _PDL_CAPABILITY
    return FusedLora(sgmv, num_programs, uses_pdl=has_pdl)
