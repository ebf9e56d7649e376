"""Captures CUDA graphs that share one memory pool: only one of them runs at a time.

Must not know what is launched.
"""

from collections.abc import Callable
from typing import Protocol

import torch


class Graph(Protocol):
    """Launches to be made again; torch.cuda.CUDAGraph is one."""

    def replay(self) -> None:
        """Launches all of them on the current stream."""
        ...


class Capture(Protocol):
    """Who makes graphs. Have the largest captured first: the smaller then fit in its memory."""

    def capture(self, launch: Callable[[], None]) -> Graph:
        """The graph of what `launch` launches, which may run before and in this call."""
        ...

    def synchronize(self) -> None:
        """Returns when the device has done all that captures launched."""
        ...


class CudaCapture:
    """`Capture` on a GPU."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def capture(self, launch: Callable[[], None]) -> Graph:
        """As Capture."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            # What is compiled, chosen or built on first use must not fall into the capture.
            launch()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            launch()
        return graph

    def synchronize(self) -> None:
        """As Capture."""
        torch.cuda.synchronize()
