"""Streams through gRPC from processes of their own, all at once, timed. Must not know what serves them."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context

from client.events import Delta
from client.inference_client import InferenceClient
from client.sampling import SamplingParams

# From the order to the first request: every process must be connected by then.
START_DELAY_S = 0.5
READY_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Call:
    """One stream: `adapter` "" is the base model."""

    adapter: str
    token_ids: tuple[int, ...]
    num_tokens: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a call; times are time.monotonic(), which processes of one machine share."""

    start_s: float
    first_token_s: float
    end_s: float
    num_tokens: int


class ClientProcesses:
    """`num_processes` that call `address`."""

    def __init__(self, pool: ProcessPoolExecutor, num_processes: int, address: str) -> None:
        self._pool = pool
        self._num_processes = num_processes
        self._address = address

    def run(self, calls: Sequence[Call]) -> list[Answer]:
        """All of `calls` at one moment. Raises MultiloraError."""
        start_s = time.monotonic() + START_DELAY_S
        shares = [calls[index :: self._num_processes] for index in range(self._num_processes)]
        runs = [self._pool.submit(run_calls, self._address, share, start_s) for share in shares if share]
        return [answer for run in runs for answer in run.result()]


@contextmanager
def client_processes(num_processes: int, address: str) -> Iterator[ClientProcesses]:
    """Processes that are there, and have called once."""
    with ProcessPoolExecutor(num_processes, mp_context=get_context("spawn")) as pool:
        processes = ClientProcesses(pool, num_processes, address)
        # Each has imported all that it needs before anything is timed.
        ready = [pool.submit(run_calls, address, (), 0.0) for _ in range(num_processes)]
        for one in ready:
            one.result()
        yield processes


def run_calls(address: str, calls: Sequence[Call], start_s: float) -> list[Answer]:
    """What one process does: connects, waits for `start_s`, runs its calls side by side."""
    return asyncio.run(_run_calls(address, calls, start_s))


async def _run_calls(address: str, calls: Sequence[Call], start_s: float) -> list[Answer]:
    async with InferenceClient(address) as client:
        await client.wait_until_ready(READY_TIMEOUT_S)
        await asyncio.sleep(max(0.0, start_s - time.monotonic()))
        return await asyncio.gather(*(_answer(client, call) for call in calls))


async def _answer(client: InferenceClient, call: Call) -> Answer:
    sampling = SamplingParams(max_tokens=call.num_tokens, temperature=0.0, ignore_eos=True)
    start_s, first_token_s, num_tokens = time.monotonic(), 0.0, 0
    async for event in client.generate(adapter=call.adapter, token_ids=call.token_ids, sampling=sampling):
        if isinstance(event, Delta):
            first_token_s = first_token_s or time.monotonic()
            num_tokens += len(event.token_ids)
    return Answer(start_s, first_token_s, time.monotonic(), num_tokens)
