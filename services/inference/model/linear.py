"""A base matmul with the LoRA deltas of its sites added.

Legend: T rows, O out features, I in features. Must not know layers or attention.
"""

import torch.nn.functional as F
from torch import Tensor

from kernels.lora_site import LoraSite
from kernels.segments import Segments
from kernels.sgmv import Sgmv


class LoraLinear:
    """y = x W^T + b, then `sgmv.add_` at `sites`, whose outputs lie side by side in y."""

    def __init__(
        self, weight_OI: Tensor, bias_O: Tensor | None, sites: tuple[LoraSite, ...], sgmv: Sgmv
    ) -> None:
        self._weight_OI = weight_OI
        self._bias_O = bias_O
        self._sites = sites
        self._sgmv = sgmv

    def __call__(self, x_TI: Tensor, segments: Segments | None) -> Tensor:
        """y_TO, a new tensor; `segments` None means that every row is a base row."""
        y_TO = F.linear(x_TI, self._weight_OI, self._bias_O)
        if segments is not None:
            self._sgmv.add_(y_TO, x_TI, self._sites, segments, self._bias_O)
        return y_TO
