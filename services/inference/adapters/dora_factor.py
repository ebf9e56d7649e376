"""DoRA's column factor, from an adapter's weights and the base's. Liu et al. 2024, as PEFT computes it.

Legend: R rank, I in_features, O out_features. Must not know pages or files.
"""

import torch
from torch import Tensor

from services.inference.adapters.adapter_weights import SiteWeights
from services.inference.adapters.peft_config import invalid

DORA_CHUNK_ELEMENTS = 1 << 22


def dora_factor(weights: SiteWeights, weight_OI: Tensor) -> Tensor:
    """m / ||W + scale * BA|| - 1 per output column, norm over in_features; (O,) float32 on the host.

    Computed in float32 on `weight_OI`'s device, a few output columns at a time. Raises ServiceError
    if that is not finite.
    """
    assert weights.magnitude_O is not None
    device = weight_OI.device
    a_RI, b_OR = weights.a_RI.to(device, torch.float32), weights.b_RO.T.to(device, torch.float32)
    num_columns, width = weight_OI.shape
    chunk = max(1, DORA_CHUNK_ELEMENTS // width)
    norms = [
        torch.addmm(
            weight_OI[start : start + chunk].float(), b_OR[start : start + chunk], a_RI, alpha=weights.scale
        ).norm(dim=1)
        for start in range(0, num_columns, chunk)
    ]
    factor_O = weights.magnitude_O.float() / torch.cat(norms).cpu() - 1
    if not bool(torch.isfinite(factor_O).all()):
        raise invalid(weights.site.name, "a column of W + scale * BA is zero: DoRA cannot scale it")
    return factor_O
