"""Arrays of int32 side by side in words that are sent in one copy.

Must not know what they mean.
"""

from collections.abc import Sequence
from itertools import accumulate

import torch

from services.inference.model.sent_words import SentWords, WordArray

_ALIGNMENT = 16


class SentFields:
    """One array a length in `lengths`, in that order, each starting on 64 bytes; `device` are those there."""

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        starts = list(accumulate((-(-n // _ALIGNMENT) * _ALIGNMENT for n in lengths), initial=0))
        self._spans = [slice(start, start + n) for start, n in zip(starts[:-1], lengths, strict=True)]
        self._words = SentWords(starts[-1], device)
        self.device = tuple([self._words.device_X[span] for span in self._spans])

    def host(self) -> tuple[WordArray, ...]:
        """The arrays to write the next step to, as an older step left them."""
        words = self._words.host()
        return tuple([words[span] for span in self._spans])

    def send(self, num_last: int) -> None:
        """Sends what `host` gave, of its last array `num_last` words; in the stream's order."""
        self._words.send(self._spans[-1].start + num_last)
