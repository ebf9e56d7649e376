"""How long work takes on a device: by CUDA graph replay, by events, or by the clock on a CPU.

Also what the device can do at best: copy bandwidth, and the cost of a launch. Must not know LoRA.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

NUM_WARM_UPS = 3
NUM_COPIES = 10
NUM_CHAINED = 200


@dataclass(frozen=True, slots=True)
class Timing:
    """Median seconds of one call, and how it was taken: "graph", "events" or "clock"."""

    seconds: float
    method: str


def time_call(run: Callable[[], None], device: torch.device, repeats: int) -> Timing:
    """The median of `repeats` calls after a few untimed ones; device time alone where there is a device.

    On CUDA, `run` is captured in a graph and replayed; if it cannot be captured, its launches count too.
    """
    for _ in range(NUM_WARM_UPS):
        run()
    if device.type != "cuda":
        return Timing(statistics.median(_clocked(run) for _ in range(repeats)), "clock")
    torch.cuda.synchronize(device)
    graph = _capture(run)
    if graph is None:
        return Timing(_median_of_events(run, repeats), "events")
    graph.replay()
    return Timing(_median_of_events(graph.replay, repeats), "graph")


def copy_bytes_per_s(device: torch.device, num_bytes: int) -> float:
    """Bandwidth of a large copy within the device, bytes read and bytes written both counted."""
    source = torch.empty(num_bytes, dtype=torch.uint8, device=device).random_(0, 255)
    target = torch.empty_like(source)
    timing = time_call(lambda: _copy(target, source), device, NUM_COPIES)
    return 2 * num_bytes / timing.seconds


def launch_seconds(device: torch.device) -> float:
    """What one kernel with nothing to do adds to a chain of them."""
    value = torch.zeros(32, device=device)

    def chain() -> None:
        for _ in range(NUM_CHAINED):
            value.add_(1.0)

    return time_call(chain, device, NUM_COPIES).seconds / NUM_CHAINED


def synchronize(device: torch.device) -> None:
    """Waits for all that was launched."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _copy(target: torch.Tensor, source: torch.Tensor) -> None:
    target.copy_(source)


def _clocked(run: Callable[[], None]) -> float:
    start_s = time.perf_counter()
    run()
    return time.perf_counter() - start_s


def _capture(run: Callable[[], None]) -> torch.cuda.CUDAGraph | None:
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            run()
    except RuntimeError:
        return None
    return graph


def _median_of_events(run: Callable[[], None], repeats: int) -> float:
    spans_ms: list[float] = []
    for _ in range(repeats):
        start = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        start.record()
        run()
        end.record()
        end.synchronize()
        spans_ms.append(start.elapsed_time(end))
    return statistics.median(spans_ms) / 1e3
