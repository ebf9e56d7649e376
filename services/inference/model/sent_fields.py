"""Arrays of int32 in device memory that never moves, filled on the host and sent in one copy.

Must not know what they mean.
"""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_ALIGNMENT = 16


NUM_HOST_COPIES = 2

WordArray = NDArray[np.int32]


class _HostCopy:
    """The arrays on the host, pinned for a GPU, and whether they may be written."""

    def __init__(self, num_words: int, spans: Sequence[slice], device: torch.device) -> None:
        is_gpu = device.type == "cuda"
        self._words_X = torch.zeros(num_words, dtype=torch.int32, pin_memory=is_gpu)
        words: WordArray = self._words_X.numpy()
        self.fields = tuple([words[span] for span in spans])
        self._sent: torch.cuda.Event | None = None
        if is_gpu:
            self._sent = torch.cuda.Event()  # type: ignore[no-untyped-call]

    def wait(self) -> None:
        if self._sent is not None:
            self._sent.synchronize()

    def send(self, to_X: Tensor, num_words: int) -> None:
        to_X[:num_words].copy_(self._words_X[:num_words], non_blocking=True)
        if self._sent is not None:
            self._sent.record()


class SentFields:
    """One array a length in `lengths`, in that order, each starting on 64 bytes; `device` are those there.

    There are two copies on the host in turn, so that one step can be written while the one before still
    waits to be sent. One thread calls everything.
    """

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        starts = list(accumulate((-(-n // _ALIGNMENT) * _ALIGNMENT for n in lengths), initial=0))
        spans = [slice(start, start + n) for start, n in zip(starts[:-1], lengths, strict=True)]
        self._last_start = starts[-2]
        self._words_X = torch.zeros(starts[-1], dtype=torch.int32, device=device)
        self.device = tuple([self._words_X[span] for span in spans])
        self._hosts = [_HostCopy(starts[-1], spans, device) for _ in range(NUM_HOST_COPIES)]

    def host(self) -> tuple[WordArray, ...]:
        """The arrays to write the next step to, once they have been sent the last time."""
        self._hosts[0].wait()
        return self._hosts[0].fields

    def send(self, num_last: int) -> None:
        """Sends what `host` gave, of its last array `num_last` words; in the stream's order."""
        self._hosts[0].send(self._words_X, self._last_start + num_last)
        self._hosts.append(self._hosts.pop(0))
