"""What changes logits before a token is chosen: minimum-length mask, logit bias, penalties.

Legend: M rows, V vocabulary, X some of the rows, B (row, token) pairs. Must not know how tokens are
chosen.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from services.inference.sampler_row import SamplerRow


def adjusted_logits(logits_MV: Tensor, rows: Sequence[SamplerRow]) -> Tensor:
    """Logits after mask, bias and penalties, in that order; `logits_MV` itself if no row has any."""
    device, vocab_size = logits_MV.device, logits_MV.shape[1]
    masks = [
        (index, token)
        for index, row in enumerate(rows)
        for token in row.masked_token_ids()
        if token < vocab_size
    ]
    biases = [(index, *bias) for index, row in enumerate(rows) for bias in row.params.logit_bias]
    penalised = [index for index, row in enumerate(rows) if row.has_penalty]
    if not (masks or biases or penalised):
        return logits_MV
    adjusted_MV = logits_MV.clone()
    if masks:
        adjusted_MV.index_put_(_columns(masks, device), torch.tensor(float("-inf"), device=device))
    if biases:
        at = _columns(((index, token) for index, token, _ in biases), device)
        amounts_B = torch.tensor([amount for _, _, amount in biases], device=device)
        adjusted_MV.index_put_(at, amounts_B, accumulate=True)
    if penalised:
        at_X = torch.tensor(penalised, device=device)
        adjusted_MV[at_X] = _penalised(adjusted_MV[at_X], [rows[index] for index in penalised])
    return adjusted_MV


def _penalised(logits_XV: Tensor, rows: Sequence[SamplerRow]) -> Tensor:
    """Repetition over prompt and output (Keskar et al. 2019), then frequency and presence over the output."""
    counts_XV = _counts([row.generated_token_ids for row in rows], logits_XV)
    seen_XV = (counts_XV + _counts([row.prompt_token_ids for row in rows], logits_XV)) > 0
    penalties_3X1 = torch.tensor(
        [
            [row.params.repetition_penalty for row in rows],
            [row.params.frequency_penalty for row in rows],
            [row.params.presence_penalty for row in rows],
        ],
        device=logits_XV.device,
    ).unsqueeze(2)
    repetition_X1, frequency_X1, presence_X1 = penalties_3X1
    # The smallest legal penalties would make a finite logit infinite, and leave nothing to choose by.
    raised_XV = (logits_XV / repetition_X1).clamp_(max=torch.finfo(logits_XV.dtype).max)
    repeated_XV = torch.where(logits_XV > 0, raised_XV, logits_XV * repetition_X1)
    result_XV = torch.where(seen_XV, repeated_XV, logits_XV)
    result_XV -= frequency_X1 * counts_XV
    result_XV -= presence_X1 * (counts_XV > 0)
    return result_XV


def _counts(histories: Sequence[Sequence[int]], like_XV: Tensor) -> Tensor:
    """How often each token is in each history, float32."""
    counts_XV = torch.zeros_like(like_XV)
    for counts_V, history in zip(counts_XV, histories, strict=True):
        ids_B = torch.tensor(history, dtype=torch.int64, device=like_XV.device)
        counts_V += torch.bincount(ids_B, minlength=like_XV.shape[1])
    return counts_XV


def _columns(pairs: Iterable[tuple[int, int]], device: torch.device) -> tuple[Tensor, Tensor]:
    rows_B, tokens_B = torch.tensor(list(pairs), device=device).unbind(1)
    return rows_B, tokens_B
