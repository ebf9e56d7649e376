"""Random draws of tokens for rows with a temperature: temperature, min_p, top_k, top_p, then the draw.

Legend: M rows, X those that draw, Y those of them that are limited, V vocabulary. Must not know the order of
what comes before, nor where tokens go.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from kernels.host_copies import SentArrays
from services.inference.gumbel_noise import gumbel_noise, noise_keys
from services.inference.request import SamplingParams
from services.inference.sampler_row import SamplerRow

NEG_INF = float("-inf")
# Under what float32 tells logits apart by, so the draw is greedy but for ties; and never 0 / 0.
MIN_TEMPERATURE = 1e-7


class Draw:
    """The draws that `rows` ask for; what the device must know of them is added to `arrays`."""

    def __init__(self, rows: Sequence[SamplerRow], arrays: SentArrays) -> None:
        self._arrays = arrays
        drawn = [index for index, row in enumerate(rows) if row.params.temperature > 0]
        self._is_empty = not drawn
        if self._is_empty:
            return
        params = [rows[index].params for index in drawn]
        self._at = arrays.add(drawn, np.int64)
        self._temperatures = arrays.add([max(p.temperature, MIN_TEMPERATURE) for p in params], np.float32)
        self._floors: int | None = None
        if any(p.min_p for p in params):
            floors = [math.log(p.min_p) if p.min_p else NEG_INF for p in params]
            self._floors = arrays.add(floors, np.float32)
        limited = [index for index, p in enumerate(params) if p.top_k or p.top_p < 1]
        self._limits = _Limits(limited, [params[index] for index in limited], arrays) if limited else None
        self._keys = arrays.add(noise_keys([_seed_and_position(rows[index]) for index in drawn]), np.int64)

    def apply_(self, chosen_M: Tensor, adjusted_MV: Tensor, best_M: Tensor) -> None:
        """Mutates the tokens of the rows that draw; `best_M` is each row's largest logit.

        To be called when `arrays` are sent.
        """
        if self._is_empty:
            return
        at_X = self._arrays[self._at]
        relative_XV = adjusted_MV[at_X] - best_M[at_X].unsqueeze(1)
        scaled_XV = relative_XV / self._arrays[self._temperatures].unsqueeze(1)
        if self._floors is not None:
            scaled_XV.masked_fill_(scaled_XV < self._arrays[self._floors].unsqueeze(1), NEG_INF)
        if self._limits:
            self._limits.apply_(scaled_XV)
        chosen_M[at_X] = scaled_XV.add_(gumbel_noise(self._arrays[self._keys], scaled_XV)).argmax(dim=-1)


class _Limits:
    """-inf outside the top_k best tokens and outside the fewest of them that hold top_p together."""

    def __init__(self, limited: list[int], params: Sequence[SamplingParams], arrays: SentArrays) -> None:
        self._arrays = arrays
        self._at = arrays.add(limited, np.int64)
        self._top_ks = arrays.add([p.top_k or np.iinfo(np.int64).max for p in params], np.int64)
        # A top_p of 1 keeps all, whatever the sum rounds to.
        self._bounds = arrays.add([p.top_p if p.top_p < 1 else math.inf for p in params], np.float32)

    def apply_(self, scaled_XV: Tensor) -> None:
        at_Y = self._arrays[self._at]
        limited_YV = scaled_XV[at_Y]
        sorted_YV, order_YV = limited_YV.sort(dim=-1, descending=True, stable=True)
        ranks_V = torch.arange(limited_YV.shape[1], device=scaled_XV.device)
        sorted_YV.masked_fill_(ranks_V >= self._arrays[self._top_ks].unsqueeze(1), NEG_INF)
        probs_YV = sorted_YV.softmax(dim=-1)
        before_YV = probs_YV.cumsum(dim=-1) - probs_YV
        sorted_YV.masked_fill_(before_YV >= self._arrays[self._bounds].unsqueeze(1), NEG_INF)
        scaled_XV[at_Y] = torch.empty_like(limited_YV).scatter_(1, order_YV, sorted_YV)


def _seed_and_position(row: SamplerRow) -> tuple[int, int]:
    assert row.params.seed is not None, "a row with a temperature has a seed by now"
    return row.params.seed, row.num_generated
