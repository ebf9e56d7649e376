"""Chooses each row's next token from its logits, on the device, without waiting for it.

A row's token depends on its own logits, parameters and history alone, so a request gets the same
tokens alone and in any batch. Order of operations as in vLLM: minimum-length mask, logit bias,
penalties; then, for rows with a temperature, temperature, min_p, top_k, top_p and the draw.

Legend: M rows, V vocabulary, X rows that ask for log-probabilities. Must not know models, batches or streams.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from kernels.host_copies import HostCopies, SentArrays
from services.common.errors import Code, Reason, ServiceError
from services.inference.draw import Draw
from services.inference.logit_adjustment import LogitAdjustment
from services.inference.messages import TokenLogprobs
from services.inference.model.last_tokens import LastTokens
from services.inference.sampler_row import SampledToken, SamplerRow

NO_TOKEN = -1


class Sampling:
    """Tokens on their way from the device."""

    def __init__(self, copies: HostCopies, num_logprobs: Sequence[int | None]) -> None:
        self._copies = copies
        self._num_logprobs = num_logprobs

    def tokens(self) -> list[SampledToken]:
        """One a row; waits for the device to have chosen them, and for nothing after that."""
        token_ids_M, *logprobs = self._copies.wait()
        token_ids: list[int] = token_ids_M.tolist()
        found = _logprobs(token_ids, self._num_logprobs, logprobs) if logprobs else {}
        return [
            SampledToken(token_id, found.get(index))
            if token_id != NO_TOKEN
            else SampledToken(NO_TOKEN, error=_no_token())
            for index, token_id in enumerate(token_ids)
        ]


@torch.inference_mode()
def launch_sampling(logits_MV: Tensor, rows: Sequence[SamplerRow], last_tokens: LastTokens) -> Sampling:
    """One token a row of float32 `logits_MV`, which is left as it is, and may change as soon as this returns.

    Of equal logits the lowest token id is best. Log-probabilities are the model's own: of the logits
    before any bias, penalty or temperature. A row whose logits hold NaN or +inf, or that has every
    token masked, gets an INTERNAL error; other rows go on. Tokens in flight are read from
    `last_tokens`, which then holds the new ones.
    """
    num_logprobs = [row.params.logprobs for row in rows]
    arrays = SentArrays()
    adjustment = LogitAdjustment(rows, logits_MV.shape[1], arrays)
    draw = Draw(rows, arrays)
    asking = [index for index, count in enumerate(num_logprobs) if count is not None]
    at = arrays.add(asking, np.int64) if asking else None
    arrays.send(logits_MV.device)
    adjusted_MV = adjustment.apply(logits_MV, last_tokens)
    best_M, chosen_M = adjusted_MV.max(dim=-1)
    usable_M = best_M.abs() < math.inf
    if adjusted_MV is not logits_MV:
        usable_M &= logits_MV.amax(dim=-1).abs() < math.inf
    draw.apply_(chosen_M, adjusted_MV, best_M)
    last_tokens.write_(chosen_M)
    results = [chosen_M.masked_fill(~usable_M, NO_TOKEN)]
    if at is not None:
        most = max(count for count in num_logprobs if count is not None)
        results += _gather_logprobs(logits_MV, chosen_M, arrays[at], most)
    return Sampling(HostCopies(results, logits_MV.device), num_logprobs)


def _no_token() -> ServiceError:
    message = "no token can be chosen: the model gave NaN or infinite logits, or every token is masked"
    return ServiceError(Code.INTERNAL, Reason.INTERNAL_ERROR, message)


def _gather_logprobs(logits_MV: Tensor, chosen_M: Tensor, at_X: Tensor, count: int) -> tuple[Tensor, ...]:
    """Of the rows at_X: the chosen token's [X], and the best `count` [X, count], values and token ids."""
    logprobs_XV = logits_MV[at_X].log_softmax(dim=-1)
    chosen_X = logprobs_XV.gather(1, chosen_M[at_X].unsqueeze(1)).flatten()
    top = logprobs_XV.topk(min(count, logits_MV.shape[1]), dim=-1)
    return chosen_X, top.values, top.indices


def _logprobs(
    token_ids: Sequence[int], num_logprobs: Sequence[int | None], gathered: Sequence[Tensor]
) -> dict[int, TokenLogprobs]:
    """By row index, for the rows that ask."""
    chosen, values, ids = (tensor.tolist() for tensor in gathered)
    asking = [(index, count) for index, count in enumerate(num_logprobs) if count is not None]
    return {
        index: TokenLogprobs(
            token_ids[index], chosen[x], tuple(zip(ids[x][:count], values[x][:count], strict=True))
        )
        for x, (index, count) in enumerate(asking)
    }
