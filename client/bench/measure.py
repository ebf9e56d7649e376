"""Puts one trace on a server and times every stream of it."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from client.bench.load import Load, Loop
from client.bench.trace import PlannedRequest
from client.errors import MultiloraError
from client.events import Delta
from client.inference_client import InferenceClient
from client.sampling import SamplingParams


@dataclass(frozen=True, slots=True)
class StreamTiming:
    """What one stream saw; times in seconds.

    `inter_token_s` has one entry for each token after the first: a delta of k tokens that comes t after the
    one before counts as k gaps of t/k. `error` is empty if the stream ended well.
    """

    adapter: str
    ttft_s: float
    inter_token_s: tuple[float, ...]
    num_tokens: int
    error: str


@dataclass(frozen=True, slots=True)
class Run:
    """One pass over a trace; `wall_s` from the first request's start to the last one's end."""

    streams: tuple[StreamTiming, ...]
    wall_s: float

    @property
    def tokens_per_s(self) -> float:
        """Tokens delivered by all streams together."""
        return sum(stream.num_tokens for stream in self.streams) / self.wall_s


async def run_trace(client: InferenceClient, trace: Sequence[PlannedRequest], load: Load) -> Run:
    """Runs `trace` as `load.loop` says. A failed stream is counted, never raised."""
    started_s = time.perf_counter()
    if load.loop is Loop.closed:
        streams = await _closed(client, trace, load.concurrency)
    else:
        streams = await _open(client, trace, started_s)
    return Run(tuple(streams), time.perf_counter() - started_s)


async def _closed(
    client: InferenceClient, trace: Sequence[PlannedRequest], concurrency: int
) -> list[StreamTiming]:
    waiting = iter(trace)
    streams: list[StreamTiming] = []

    async def worker() -> None:
        streams.extend([await time_stream(client, planned) for planned in waiting])

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(worker())
    return streams


async def _open(
    client: InferenceClient, trace: Sequence[PlannedRequest], started_s: float
) -> list[StreamTiming]:
    async def arrive(planned: PlannedRequest) -> StreamTiming:
        await asyncio.sleep(started_s + planned.arrival_s - time.perf_counter())
        return await time_stream(client, planned)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(arrive(planned)) for planned in trace]
    return [task.result() for task in tasks]


async def time_stream(client: InferenceClient, planned: PlannedRequest) -> StreamTiming:
    """Runs one request to its end and times each token."""
    sampling = SamplingParams(max_tokens=planned.num_output_tokens, temperature=0.0, ignore_eos=True)
    asked_s = time.perf_counter()
    first_s = last_s = 0.0
    num_tokens = 0
    gaps_s: list[float] = []
    error = ""
    try:
        async for event in client.generate(
            adapter=planned.adapter, token_ids=planned.prompt_ids, sampling=sampling
        ):
            if not isinstance(event, Delta) or not event.token_ids:
                continue
            now_s, count = time.perf_counter(), len(event.token_ids)
            if num_tokens == 0:
                first_s = now_s
                gaps_s.extend([0.0] * (count - 1))
            else:
                gaps_s.extend([(now_s - last_s) / count] * count)
            num_tokens, last_s = num_tokens + count, now_s
    except MultiloraError as failure:
        error = str(failure)
    return StreamTiming(planned.adapter, first_s - asked_s, tuple(gaps_s), num_tokens, error)
