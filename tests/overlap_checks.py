"""Streams of an engine whose steps overlap against one whose steps do not, on any device."""

import random
from dataclasses import dataclass, field
from pathlib import Path

import tokenizers

from benchmarks.local_engine import LocalEngine, Stream, local_engine, resolved
from demo.tasks import TASKS
from services.inference.messages import Cancel
from services.inference.request import SamplingParams
from services.inference.settings import Settings

DEMO = Path(__file__).parents[1] / "demo"
NUM_REQUESTS = 14
NUM_TOKENS = 24
PAGE_TOKENS, PAGE_BYTES = 4, 12_288
# One adapter, and keys for fewer tokens than the requests that run have in the end.
NUM_PAGES = 253 + 20
# Every 5th is cancelled while others run.
CANCELLED = range(3, NUM_REQUESTS, 5)


@dataclass
class Outcome:
    """All streams in order of submission, and how often one was preempted."""

    streams: list[Stream] = field(default_factory=list)
    preemptions: int = 0


def _sampling(index: int) -> SamplingParams:
    values = random.Random(index)
    return SamplingParams(
        max_tokens=NUM_TOKENS,
        min_tokens=values.choice([0, 18]),
        temperature=values.choice([0.0, 0.0, 0.8, 1.5]),
        top_k=values.choice([0, 20]),
        top_p=values.choice([1.0, 0.9]),
        min_p=values.choice([0.0, 0.05]),
        seed=index,
        stop_token_ids=tuple(values.sample(range(200), values.choice([0, 0, 4]))),
        ignore_eos=values.choice([True, True, False]),
        logprobs=values.choice([None, 0, 3]),
        presence_penalty=values.choice([0.0, 0.0, 0.7]),
        repetition_penalty=values.choice([1.0, 1.0, 1.3]),
        logit_bias=values.choice([(), ((30, 1.5),)]),
    )


def outcome(device: str, overlaps: bool) -> Outcome:
    """A crowd of requests, for an adapter and without, in so few pages that some are preempted."""
    tokenizer = tokenizers.Tokenizer.from_file(str(DEMO / "model" / "tokenizer.json"))
    eos = (tokenizer.token_to_id("<|eos|>"),)
    settings = Settings(
        model=DEMO / "model", device=device, dtype="float32", page_tokens=PAGE_TOKENS,
        pool_bytes=NUM_PAGES * PAGE_BYTES,
        max_batch_tokens=24, max_batch_requests=8,
    )  # fmt: skip
    found = Outcome()
    with local_engine(settings, overlaps=overlaps) as engine:
        for index in range(NUM_REQUESTS):
            task = TASKS[0]
            adapter = None if index % 3 == 2 else resolved(DEMO / "adapters" / "sort")
            prompt = tokenizer.encode(task.prompt(task.words[index])).ids
            found.streams.append(engine.submit((adapter, prompt), _sampling(index), eos))
        _cancel_some(engine, found.streams)
        engine.finish(found.streams)
        found.preemptions = engine.engine.stats().preemptions
    return found


def _cancel_some(engine: LocalEngine, streams: list[Stream]) -> None:
    for stream in (streams[index] for index in CANCELLED):
        while not stream.token_ids and not stream.is_finished:
            engine.step()
        engine.engine.handle(Cancel(stream.request_id))


def check_same_streams(device: str) -> None:
    one, other = outcome(device, overlaps=False), outcome(device, overlaps=True)
    assert min(one.preemptions, other.preemptions) > 0
    for index, (alone, overlapped) in enumerate(zip(one.streams, other.streams, strict=True)):
        if index in CANCELLED:
            # When a cancellation comes is a matter of time.
            num_tokens = min(len(alone.token_ids), len(overlapped.token_ids))
            assert num_tokens > 0
        else:
            num_tokens = max(len(alone.token_ids), len(overlapped.token_ids))
        assert alone.token_ids[:num_tokens] == overlapped.token_ids[:num_tokens], index
        for ones, others in zip(alone.logprobs[:num_tokens], overlapped.logprobs[:num_tokens], strict=True):
            assert ones.token_id == others.token_id
            # The batches differ, so float32 sums may be in another order.
            assert abs(ones.logprob - others.logprob) < 1e-3
            assert len(ones.top) == len(others.top)
