"""How much of a decode step the device computes, and in which kernels, by torch's profiler.

What a step takes beyond that, the device waits for the host. Profiling slows the host: times of the
host are taken elsewhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.local_engine import LocalEngine, Prompt
from services.inference.request import SamplingParams

NUM_STEPS = 8
NUM_BUSIEST = 12


@dataclass(frozen=True, slots=True)
class DeviceBusy:
    """Seconds of kernels in one decode step; the kernels that took most, in ms a step."""

    step_s: float
    busiest_ms: tuple[tuple[str, float], ...]


def decode_device_busy(
    engine: LocalEngine, prompts: Sequence[Prompt], device: torch.device
) -> DeviceBusy | None:
    """The mean of a few decode steps of `prompts`; None where the device is the CPU."""
    if device.type != "cuda":
        return None
    sampling = SamplingParams(max_tokens=NUM_STEPS + 4, temperature=0.0, ignore_eos=True)
    streams = [engine.submit(prompt, sampling) for prompt in prompts]
    while not all(stream.token_ids for stream in streams):
        engine.step()
    num_tokens = sum(len(stream.token_ids) for stream in streams)
    torch.cuda.synchronize(device)
    with profile(activities=[ProfilerActivity.CUDA]) as taken:
        for _ in range(NUM_STEPS):
            engine.step()
        torch.cuda.synchronize(device)
    num_tokens = sum(len(stream.token_ids) for stream in streams) - num_tokens
    engine.finish(streams)
    kernels = [event for event in taken.key_averages() if event.device_type == DeviceType.CUDA]
    # Early streams may have ended meanwhile: what counts is how many rows were computed.
    num_steps = num_tokens / len(streams)
    times_ms = {event.key: event.self_device_time_total / 1e3 / num_steps for event in kernels}
    busiest = sorted(times_ms.items(), key=lambda item: -item[1])[:NUM_BUSIEST]
    return DeviceBusy(sum(times_ms.values()) / 1e3, tuple((name[:80], ms) for name, ms in busiest))
