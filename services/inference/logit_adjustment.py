"""What changes logits before a token is chosen: minimum-length mask, logit bias, penalties.

Legend: M rows, V vocabulary, X some of the rows, B (row, token) pairs. Must not know how tokens are
chosen.
"""

from collections.abc import Sequence
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from kernels.host_copies import SentArrays
from services.inference.model.last_tokens import LastTokens
from services.inference.sampler_row import SamplerRow


class LogitAdjustment:
    """What `rows` ask for; what the device must know of it is added to `arrays`."""

    def __init__(self, rows: Sequence[SamplerRow], vocab_size: int, arrays: SentArrays) -> None:
        masks = [
            index * vocab_size + token
            for index, row in enumerate(rows)
            if row.params.min_tokens
            for token in row.masked_token_ids()
            if token < vocab_size
        ]
        biases = [(index, *bias) for index, row in enumerate(rows) for bias in row.params.logit_bias]
        penalised = [index for index, row in enumerate(rows) if row.has_penalty]
        self._masks = _Masks(masks, arrays) if masks else None
        self._biases = _Biases(biases, arrays) if biases else None
        self._penalties = _Penalties(penalised, rows, arrays) if penalised else None

    def apply(self, logits_MV: Tensor, last_tokens: LastTokens) -> Tensor:
        """Logits after mask, bias and penalties, in that order; `logits_MV` itself if no row has any.

        To be called when `arrays` are sent. A token in flight is read from `last_tokens`.
        """
        if not (self._masks or self._biases or self._penalties):
            return logits_MV
        adjusted_MV = logits_MV.clone()
        if self._masks:
            self._masks.apply_(adjusted_MV)
        if self._biases:
            self._biases.apply_(adjusted_MV)
        if self._penalties:
            self._penalties.apply_(adjusted_MV, last_tokens)
        return adjusted_MV


class _Masks:
    def __init__(self, at_flat: list[int], arrays: SentArrays) -> None:
        self._arrays = arrays
        self._at = arrays.add(at_flat, np.int64)

    def apply_(self, logits_MV: Tensor) -> None:
        logits_MV.view(-1).index_fill_(0, self._arrays[self._at], float("-inf"))


class _Biases:
    def __init__(self, biases: list[tuple[int, int, float]], arrays: SentArrays) -> None:
        self._arrays = arrays
        self._at = arrays.add([[row for row, _, _ in biases], [token for _, token, _ in biases]], np.int64)
        self._amounts = arrays.add([amount for _, _, amount in biases], np.float32)

    def apply_(self, logits_MV: Tensor) -> None:
        rows_B, tokens_B = self._arrays[self._at].unbind(0)
        logits_MV.index_put_((rows_B, tokens_B), self._arrays[self._amounts], accumulate=True)


class _Penalties:
    """Repetition over prompt and output (Keskar et al. 2019), then frequency and presence over the output."""

    def __init__(self, penalised: list[int], rows: Sequence[SamplerRow], arrays: SentArrays) -> None:
        self._arrays = arrays
        chosen = [rows[index] for index in penalised]
        self._at = arrays.add(penalised, np.int64)
        self._penalties = arrays.add(
            [
                [row.params.repetition_penalty for row in chosen],
                [row.params.frequency_penalty for row in chosen],
                [row.params.presence_penalty for row in chosen],
            ],
            np.float32,
        )
        self._outputs = _Histories([row.output_token_ids() for row in chosen], arrays)
        self._prompts = _Histories([row.prompt_token_ids for row in chosen], arrays)

    def apply_(self, logits_MV: Tensor, last_tokens: LastTokens) -> None:
        at_X = self._arrays[self._at]
        logits_XV = logits_MV[at_X]
        counts_XV = self._outputs.counts(logits_XV, last_tokens)
        seen_XV = (counts_XV + self._prompts.counts(logits_XV, last_tokens)) > 0
        repetition_X1, frequency_X1, presence_X1 = self._arrays[self._penalties].unsqueeze(2)
        # The smallest legal penalties would make a finite logit infinite, and leave nothing to choose by.
        raised_XV = (logits_XV / repetition_X1).clamp_(max=torch.finfo(logits_XV.dtype).max)
        repeated_XV = torch.where(logits_XV > 0, raised_XV, logits_XV * repetition_X1)
        result_XV = torch.where(seen_XV, repeated_XV, logits_XV)
        result_XV -= frequency_X1 * counts_XV
        result_XV -= presence_X1 * (counts_XV > 0)
        logits_MV[at_X] = result_XV


class _Histories:
    def __init__(self, histories: Sequence[Sequence[int]], arrays: SentArrays) -> None:
        self._arrays = arrays
        lengths = [len(history) for history in histories]
        self._rows = arrays.add(np.repeat(np.arange(len(histories)), lengths), np.int64)
        self._tokens = arrays.add(list(chain.from_iterable(histories)), np.int64)

    def counts(self, like_XV: Tensor, last_tokens: LastTokens) -> Tensor:
        """How often each token is in each history, float32: whole numbers, exact in any order."""
        rows_B, tokens_B = self._arrays[self._rows], self._arrays[self._tokens]
        counts_XV = torch.zeros_like(like_XV)
        if len(tokens_B):
            last_tokens.pick_(tokens_B)
            at_B = rows_B * like_XV.shape[1] + tokens_B
            counts_XV.view(-1).scatter_add_(0, at_B, torch.ones_like(at_B, dtype=like_XV.dtype))
        return counts_XV
