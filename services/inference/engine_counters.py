"""What the engine has done since its start: the counters behind GetStats.

Must not know pages or adapters: gauges are read from their owners when stats are asked for.
"""

from dataclasses import dataclass

from services.common.histogram import SIZES, Histogram


@dataclass(slots=True)
class EngineCounters:
    """Counts since the start, changed by the engine only."""

    prompt_tokens: int = 0
    generated_tokens: int = 0
    steps: int = 0
    mixed_steps: int = 0
    max_adapters_in_batch: int = 0
    max_requests_in_batch: int = 0
    finished_requests: int = 0
    cancelled_requests: int = 0
    failed_requests: int = 0

    def count_step(self, num_requests: int, num_adapters: int) -> None:
        """Adds one step that ran."""
        self.steps += 1
        self.mixed_steps += num_adapters >= 2
        self.max_adapters_in_batch = max(self.max_adapters_in_batch, num_adapters)
        self.max_requests_in_batch = max(self.max_requests_in_batch, num_requests)


class BatchMeter:
    """How large steps are, for the metrics."""

    def __init__(self) -> None:
        self.requests = Histogram(SIZES)
        # From 0, which is a step of the base model alone.
        self.adapters = Histogram((0.0, *SIZES))

    def count_step(self, num_requests: int, num_adapters: int) -> None:
        """Adds one step that ran."""
        self.requests.observe(num_requests)
        self.adapters.observe(num_adapters)
