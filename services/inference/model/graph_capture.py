"""Captures CUDA graphs that share one memory pool: only one of them runs at a time.

Must not know what is launched.
"""

from collections.abc import Callable

import torch


class GraphCapture:
    """Capture the largest first: the smaller then fit in its memory."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def capture(self, launch: Callable[[], None]) -> torch.cuda.CUDAGraph:
        """The graph of what `launch` launches; runs it once before."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            # What is compiled, chosen or built on first use must not fall into the capture.
            launch()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            launch()
        return graph
