"""Chooses each row's next token from its logits.

A row's token depends on its own logits, parameters and history alone, so a request gets the same
tokens alone and in any batch. Order of operations as in vLLM: minimum-length mask, logit bias,
penalties; then, for rows with a temperature, temperature, min_p, top_k, top_p and the draw.

Legend: M rows, V vocabulary, X some of the rows. Must not know models, batches or streams.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from services.common.errors import Code, Reason, ServiceError
from services.inference.gumbel_noise import gumbel_noise
from services.inference.logit_adjustment import adjusted_logits
from services.inference.messages import TokenLogprobs
from services.inference.request import SamplingParams
from services.inference.sampler_row import SampledToken, SamplerRow

NEG_INF = float("-inf")
# Under what float32 tells logits apart by, so the draw is greedy but for ties; and never 0 / 0.
MIN_TEMPERATURE = 1e-7


@torch.inference_mode()
def sample(logits_MV: Tensor, rows: Sequence[SamplerRow]) -> list[SampledToken]:
    """One token a row of float32 `logits_MV`, which is left as it is.

    Of equal logits the lowest token id is best. Log-probabilities are the model's own: of the logits
    before any bias, penalty or temperature. A row whose logits hold NaN or +inf, or that has every
    token masked, gets an INTERNAL error; other rows go on.
    """
    adjusted_MV = adjusted_logits(logits_MV, rows)
    best_M, chosen_M = adjusted_MV.max(dim=-1)
    usable_M = torch.isfinite(best_M)
    if adjusted_MV is not logits_MV:
        usable_M &= torch.isfinite(logits_MV.amax(dim=-1))
    drawn = [index for index, row in enumerate(rows) if row.params.temperature > 0]
    if drawn:
        at_X = torch.tensor(drawn, device=logits_MV.device)
        relative_XV = adjusted_MV[at_X] - best_M[at_X].unsqueeze(1)
        chosen_M[at_X] = _draw(relative_XV, [rows[index] for index in drawn])
    tokens, usable = chosen_M.tolist(), usable_M.tolist()
    logprobs = _logprobs(logits_MV, tokens, rows)
    return [
        SampledToken(tokens[index], logprobs.get(index))
        if usable[index]
        else SampledToken(-1, error=_no_token())
        for index in range(len(rows))
    ]


def _no_token() -> ServiceError:
    message = "no token can be chosen: the model gave NaN or infinite logits, or every token is masked"
    return ServiceError(Code.INTERNAL, Reason.INTERNAL_ERROR, message)


def _draw(relative_XV: Tensor, rows: Sequence[SamplerRow]) -> Tensor:
    """Token ids [X] drawn from `relative_XV`, each row's logits less their maximum."""
    params = [row.params for row in rows]
    scaled_XV = relative_XV / _column([max(p.temperature, MIN_TEMPERATURE) for p in params], relative_XV)
    if any(p.min_p for p in params):
        floors_X1 = _column([math.log(p.min_p) if p.min_p else NEG_INF for p in params], relative_XV)
        scaled_XV.masked_fill_(scaled_XV < floors_X1, NEG_INF)
    limited = [index for index, p in enumerate(params) if p.top_k or p.top_p < 1]
    if limited:
        at_X = torch.tensor(limited, device=relative_XV.device)
        scaled_XV[at_X] = _limited(scaled_XV[at_X], [params[index] for index in limited])
    return scaled_XV.add_(gumbel_noise([_noise_key(row) for row in rows], scaled_XV)).argmax(dim=-1)


def _limited(scaled_XV: Tensor, params: Sequence[SamplingParams]) -> Tensor:
    """-inf outside the top_k best tokens and outside the fewest of them that hold top_p together."""
    vocab_size = scaled_XV.shape[1]
    sorted_XV, order_XV = scaled_XV.sort(dim=-1, descending=True, stable=True)
    ranks_V = torch.arange(vocab_size, device=scaled_XV.device)
    sorted_XV.masked_fill_(ranks_V >= _column([p.top_k or vocab_size for p in params], scaled_XV), NEG_INF)
    probs_XV = sorted_XV.softmax(dim=-1)
    before_XV = probs_XV.cumsum(dim=-1) - probs_XV
    # A top_p of 1 keeps all, whatever the sum rounds to.
    bounds_X1 = _column([p.top_p if p.top_p < 1 else math.inf for p in params], scaled_XV)
    sorted_XV.masked_fill_(before_XV >= bounds_X1, NEG_INF)
    return torch.empty_like(scaled_XV).scatter_(1, order_XV, sorted_XV)


def _noise_key(row: SamplerRow) -> tuple[int, int]:
    assert row.params.seed is not None, "a row with a temperature has a seed by now"
    return row.params.seed, len(row.generated_token_ids)


def _logprobs(
    logits_MV: Tensor, tokens: Sequence[int], rows: Sequence[SamplerRow]
) -> dict[int, TokenLogprobs]:
    """By row index, for the rows that ask."""
    asking = [index for index, row in enumerate(rows) if row.params.logprobs is not None]
    if not asking:
        return {}
    logprobs_XV = logits_MV[torch.tensor(asking, device=logits_MV.device)].log_softmax(dim=-1)
    chosen_X1 = torch.tensor([[tokens[index]] for index in asking], device=logits_MV.device)
    chosen = logprobs_XV.gather(1, chosen_X1).flatten().tolist()
    counts = [rows[index].params.logprobs or 0 for index in asking]
    top = logprobs_XV.topk(min(max(counts), logits_MV.shape[1]), dim=-1)
    best = [
        tuple(zip(ids[:count], values[:count], strict=True))
        for ids, values, count in zip(top.indices.tolist(), top.values.tolist(), counts, strict=True)
    ]
    return {
        index: TokenLogprobs(tokens[index], logprob, pairs)
        for index, logprob, pairs in zip(asking, chosen, best, strict=True)
    }


def _column(values: Sequence[float], like_XV: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=like_XV.device).unsqueeze(1)
