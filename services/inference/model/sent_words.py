"""int32 words in device memory that never moves, written on the host and sent in one copy.

Must not know what they mean.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

NUM_HOST_COPIES = 2

WordArray = NDArray[np.int32]


class SentWords:
    """`device_X` are the words there; host memory is pinned where that is a GPU.

    Host memory is written again only when its copy has ended. There are two of it in turn, so that one step
    can be written while the one before still waits to be sent. One thread calls everything.
    """

    def __init__(self, num_words: int, device: torch.device) -> None:
        self.device_X = torch.zeros(num_words, dtype=torch.int32, device=device)
        self._hosts = [_HostWords(num_words, device) for _ in range(NUM_HOST_COPIES)]

    def host(self) -> WordArray:
        """The words to write the next step to, as an older step left them."""
        self._hosts[0].wait()
        return self._hosts[0].words

    def send(self, num_words: int) -> None:
        """Sends the first words of what `host` gave; the device gets them in the stream's order."""
        self._hosts[0].send(self.device_X, num_words)
        self._hosts.append(self._hosts.pop(0))


class _HostWords:
    def __init__(self, num_words: int, device: torch.device) -> None:
        is_gpu = device.type == "cuda"
        self._host_X = torch.zeros(num_words, dtype=torch.int32, pin_memory=is_gpu)
        self.words: WordArray = self._host_X.numpy()
        self._copied: torch.cuda.Event | None = None
        if is_gpu:
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]

    def wait(self) -> None:
        if self._copied is not None:
            self._copied.synchronize()

    def send(self, to_X: Tensor, num_words: int) -> None:
        to_X[:num_words].copy_(self._host_X[:num_words], non_blocking=True)
        if self._copied is not None:
            self._copied.record()
