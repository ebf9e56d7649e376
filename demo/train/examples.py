"""Prompts with their answers, as padded tensors to draw batches from.

Knows nothing of where the pairs come from, or of models. Shapes: N examples, B in a batch, L tokens.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from demo.train.tokens import BOS_ID, EOS_ID, PAD_ID, SEP_ID, encode

MAX_TOKENS = 128
IGNORED = -100


@dataclass(frozen=True, slots=True)
class Examples:
    """`tokens_NL`, padded on the right; `labels_NL`: the token to predict at each position, or IGNORED."""

    tokens_NL: torch.Tensor
    labels_NL: torch.Tensor
    lengths_N: torch.Tensor

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, str]], device: torch.device) -> Examples:
        """Encodes (prompt, answer) pairs; those over MAX_TOKENS are left out."""
        tokens, labels = array("h"), array("h")
        for prompt, answer in pairs:
            prompt_ids = [BOS_ID, *encode(prompt), SEP_ID]
            answer_ids = [*encode(answer), EOS_ID]
            num_padding = MAX_TOKENS - len(prompt_ids) - len(answer_ids)
            if num_padding >= 0:
                tokens.extend(prompt_ids + answer_ids + [PAD_ID] * num_padding)
                labels.extend([IGNORED] * (len(prompt_ids) - 1) + answer_ids + [IGNORED] * (num_padding + 1))
        tokens_NL = _rows(tokens).to(device)
        return cls(tokens_NL, _rows(labels).to(device), (tokens_NL != PAD_ID).sum(dim=1))

    def __len__(self) -> int:
        return self.tokens_NL.shape[0]

    def batch(self, index_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(tokens_BL, labels_BL) as int64, cut to the longest of the batch."""
        longest = int(self.lengths_N[index_B].max())
        return self.tokens_NL[index_B, :longest].long(), self.labels_NL[index_B, :longest].long()


def _rows(ids: array[int]) -> torch.Tensor:
    return torch.frombuffer(ids, dtype=torch.int16).view(-1, MAX_TOKENS).clone()
