"""The demo's concurrent streams: what each asks, what has arrived of it, and whether it is right.

Knows nothing of how they are shown.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from client import Delta, Finished, InferenceClient, MultiloraError, SamplingParams, Started
from client.names import short_name
from demo.stack import adapter_name
from demo.tasks import TASKS

BASE = "(base model)"

_NUM_ITEMS = 2
# Streams over the first few adapters twice: requests for one adapter and for many share a batch.
_NUM_REPEATED = 2
_NUM_BASE = 2


class State(StrEnum):
    """How far a stream is."""

    waiting = "waiting"
    streaming = "streaming"
    right = "right"
    wrong = "wrong"
    base = "base"
    failed = "failed"


@dataclass(slots=True)
class Stream:
    """One Generate call. `expected` is None for the base model, which was taught none of the tasks."""

    adapter: str
    prompt: str
    expected: str | None
    version: str = ""
    text: str = ""
    num_tokens: int = 0
    ttft_s: float = 0.0
    inter_token_s: float = 0.0
    state: State = State.waiting
    error: str = ""

    @property
    def label(self) -> str:
        """The adapter's name, or that there is none."""
        return self.adapter or BASE

    @property
    def is_over(self) -> bool:
        """Whether nothing more will arrive."""
        return self.state not in (State.waiting, State.streaming)

    @property
    def is_bad(self) -> bool:
        """Whether the demo has to fail for it."""
        return self.state in (State.wrong, State.failed)


def plan_streams() -> list[Stream]:
    """Every adapter once, a few of them twice, and the base model on prompts that adapters get too."""
    planned = [_adapter_stream(index, 0) for index in range(len(TASKS))]
    planned += [_adapter_stream(index, 1) for index in range(_NUM_REPEATED)]
    planned += [Stream("", planned[index].prompt, None) for index in range(_NUM_BASE)]
    return planned


def _adapter_stream(index: int, turn: int) -> Stream:
    task = TASKS[index]
    # Other words for each stream, all of them held out from training.
    first = _NUM_ITEMS * (index + turn * len(TASKS))
    text = " ".join(task.words[first : first + _NUM_ITEMS])
    return Stream(adapter_name(task.adapter), task.prompt(text), task.answer(text))


async def run_streams(
    client: InferenceClient, streams: Sequence[Stream], on_change: Callable[[Stream], None]
) -> None:
    """Runs all at once; `on_change` hears of each event. A failed call is a state, not an exception."""
    async with asyncio.TaskGroup() as group:
        for stream in streams:
            group.create_task(_run(client, stream, on_change))


async def _run(client: InferenceClient, stream: Stream, on_change: Callable[[Stream], None]) -> None:
    asked_s = time.perf_counter()
    first_s = last_s = asked_s
    try:
        async for event in client.generate(
            adapter=stream.adapter, text=stream.prompt, sampling=SamplingParams(temperature=0.0)
        ):
            if isinstance(event, Started):
                stream.version = short_name(event.adapter_version)
            elif isinstance(event, Delta):
                last_s = time.perf_counter()
                first_s = first_s if stream.num_tokens else last_s
                stream.num_tokens += len(event.token_ids)
                stream.text += event.text
                stream.state = State.streaming
            elif isinstance(event, Finished):
                stream.state = _verdict(stream)
            on_change(stream)
    except MultiloraError as error:
        stream.state, stream.error = State.failed, str(error)
        on_change(stream)
    stream.ttft_s = first_s - asked_s
    stream.inter_token_s = (last_s - first_s) / (stream.num_tokens - 1) if stream.num_tokens > 1 else 0.0


def _verdict(stream: Stream) -> State:
    if stream.expected is None:
        return State.base
    return State.right if stream.text == stream.expected else State.wrong
