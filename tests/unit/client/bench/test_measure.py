"""run_trace against an in-memory client: who runs when, and what is counted."""

import asyncio

import pytest

from client.bench.load import Load, Loop
from client.bench.measure import run_trace, time_stream
from client.bench.trace import PlannedRequest
from client.errors import MultiloraError
from client.events import Delta


class FakeClient:
    """Answers with two deltas (3 tokens, 1 token); adapters named `bad` fail. Counts streams at once."""

    def __init__(self):
        self.at_once = 0
        self.most_at_once = 0
        self.asked = []

    async def generate(self, *, adapter, token_ids, sampling):
        self.asked.append((adapter, len(token_ids), sampling.max_tokens, sampling.ignore_eos))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(0)
            if adapter == "bad":
                raise MultiloraError("NOT_FOUND", "no such adapter")
            yield Delta((1, 2, 3), "abc", ())
            await asyncio.sleep(0)
            yield Delta((4,), "d", ())
        finally:
            self.at_once -= 1


def planned(adapter="good", arrival_s=0.0):
    return PlannedRequest(arrival_s, adapter, (1, 2), 4)


async def test_a_closed_loop_keeps_its_concurrency():
    client = FakeClient()
    run = await run_trace(client, [planned()] * 20, Load(concurrency=3))
    assert len(run.streams) == 20
    assert client.most_at_once == 3
    assert run.tokens_per_s == pytest.approx(80 / run.wall_s)


async def test_an_open_loop_starts_all_that_have_arrived():
    client = FakeClient()
    run = await run_trace(client, [planned(arrival_s=0.0)] * 20, Load(loop=Loop.open))
    assert len(run.streams) == 20
    assert client.most_at_once == 20


async def test_an_open_loop_waits_for_arrivals():
    run = await run_trace(FakeClient(), [planned(arrival_s=0.05)], Load(loop=Loop.open))
    assert run.wall_s >= 0.05


async def test_a_failed_stream_is_counted():
    run = await run_trace(FakeClient(), [planned("bad"), planned()], Load(concurrency=1))
    assert [stream.error for stream in run.streams] == ["NOT_FOUND: no such adapter", ""]


async def test_every_token_after_the_first_has_a_gap():
    client = FakeClient()
    timing = await time_stream(client, planned())
    assert timing.num_tokens == 4
    assert len(timing.inter_token_s) == 3
    assert client.asked == [("good", 2, 4, True)]
