"""Shadows through a real server: what the copies do to the engine, to the counts, and not to the caller."""

import asyncio

import pytest

from protos.multilora.v1 import inference_pb2 as pb
from services.common.errors import Code, Reason, ServiceError
from services.common.traffic_split import is_sampled
from services.inference.messages import Cancel, Failed, Finished, Started, Submit, Tokens
from services.inference.request import FinishReason
from services.inference.resolution import ShadowTarget
from services.inference.shadows import PRIORITY
from tests.fakes import FakeEngine, adapter
from tests.integration.inference.served import SUPPORT, kinds, read_all, serve

SHADOW = "tenants/acme/adapters/support/versions/5"
ADAPTER = "tenants/acme/adapters/support"


def engine(tokens, shadow_tokens, error=None, reason=FinishReason.LENGTH):
    """Answers requests with `tokens`, copies with `shadow_tokens`; None: with nothing, ever."""

    def script(command):
        if not isinstance(command, Submit):
            return
        request_id = command.request.request_id
        is_copy = command.request.priority == PRIORITY
        if is_copy and error is not None:
            yield (Failed(request_id, error),)
            return
        said = shadow_tokens if is_copy else tokens
        if said is not None:
            yield (Started(request_id, 0, 0.0, 0.0), Tokens(request_id, tuple(said)))
            yield (Finished(request_id, reason),)

    return FakeEngine(script)


def with_shadow(served, rate=1.0):
    served.store.shadows["acme/support"] = ShadowTarget(SHADOW, rate)
    served.store._adapters[SHADOW] = adapter(SHADOW)


async def generate(served, **fields):
    request = pb.GenerateRequest(text="hello", adapter="acme/support", **fields)
    return await read_all(served.stub.Generate(request))


async def one_turn():
    """Lets the server, which runs on this loop, go on."""
    await asyncio.sleep(0)


async def stats_where(served, condition):
    while not condition(stats := served.servicer._shadows.stats):
        await one_turn()
    served.servicer.check_integrity()
    return stats


async def test_a_copy_runs_after_its_request_behind_all_others_and_is_compared(model):
    async with serve(model, engine([5, 6, 7], [5, 6, 7])) as served:
        with_shadow(served)
        responses = await generate(served, sampling=pb.SamplingParams(seed=3, max_tokens=3))
        assert kinds(responses).count("finished") == 1
        assert responses[0].started.adapter_version == SUPPORT.version_name
        stats = await stats_where(served, lambda stats: stats.finished == 1)
        primary, copy = [await served.engine.next_request() for _ in range(2)]
    assert (stats.started, stats.compared_tokens, stats.diverged) == (1, 3, 0)
    assert stats.primary_s > 0
    assert stats.shadow_s > 0
    assert copy.adapter.version_name == SHADOW
    assert (copy.priority, primary.priority) == (PRIORITY, 0)
    assert copy.prompt_token_ids == primary.prompt_token_ids
    assert copy.sampling == primary.sampling


@pytest.mark.parametrize("shadow_tokens", [[5, 6, 8], [5, 6], [5, 6, 7, 8]])
async def test_other_tokens_are_a_divergence(model, shadow_tokens):
    async with serve(model, engine([5, 6, 7], shadow_tokens)) as served:
        with_shadow(served)
        await generate(served)
        stats = await stats_where(served, lambda stats: stats.finished == 1)
    assert (stats.diverged, stats.compared_tokens) == (1, min(3, len(shadow_tokens)))


async def test_a_share_of_requests_is_copied_by_their_key(model):
    keys = [f"k{i}" for i in range(40)]
    sampled = [key for key in keys if is_sampled(ADAPTER, key, 0.25)]
    assert 0 < len(sampled) < len(keys)
    async with serve(model, engine([5], [5])) as served:
        with_shadow(served, 0.25)
        for key in keys:
            await generate(served, split_key=key)
        stats = await stats_where(served, lambda stats: stats.finished == len(sampled))
        assert (stats.started, stats.dropped) == (len(sampled), 0)


@pytest.mark.parametrize("why", ["not to be had", "not to be loaded"])
async def test_a_shadow_that_fails_is_only_counted(model, why):
    error = ServiceError(Code.DATA_LOSS, Reason.CORRUPT_BLOB, "damaged")
    async with serve(model, engine([5], [5], error)) as served:
        with_shadow(served)
        if why == "not to be had":
            del served.store._adapters[SHADOW]
        assert kinds(await generate(served))[-1] == "finished"
        stats = await stats_where(served, lambda stats: stats.failed == 1)
    assert (stats.finished, stats.dropped) == (0, 0)
    assert stats.started == (why == "not to be loaded")


async def test_a_request_that_was_cancelled_is_not_copied(model):
    async with serve(model, engine([5], [5], reason=FinishReason.CANCELLED)) as served:
        with_shadow(served)
        await generate(served)
        assert repr(served.servicer._shadows) == "Shadows(running=0, finished=0, failed=0, dropped=0)"


async def test_copies_give_way_to_requests_before_the_engine_hears_of_these(model):
    async with serve(model, engine([5], None)) as served:
        with_shadow(served)
        served.servicer._shadows._max_requests = 3
        for _ in range(2):
            await generate(served)
            await stats_where(served, lambda stats: stats.started > 0)
        stats = await stats_where(served, lambda stats: stats.started == 2)
        served.store.shadows.clear()
        commands = [await served.engine.next_command() for _ in range(4)]
        copies = [each.request.request_id for each in commands if each.request.priority == PRIORITY]
        served.servicer._shadows._max_requests = 2
        await generate(served)
        assert (stats.dropped, stats.started) == (1, 2)
        assert await served.engine.next_command() == Cancel(copies[1])
        assert isinstance(await served.engine.next_command(), Submit)
        served.servicer._shadows._max_requests = 1
        await generate(served)
        assert stats.dropped == 2
        assert await served.engine.next_command() == Cancel(copies[0])


async def test_only_so_many_run_at_once_and_the_others_are_dropped(model):
    async with serve(model, engine([5], None)) as served:
        with_shadow(served)
        served.servicer._shadows._max_copies = 2
        for _ in range(5):
            await generate(served)
        stats = await stats_where(served, lambda stats: stats.dropped == 3 and stats.started == 2)
        await served.servicer.drain()
        assert stats.dropped == 5
        assert repr(served.servicer._shadows) == "Shadows(running=0, finished=0, failed=0, dropped=5)"


async def test_without_room_beside_the_requests_none_starts(model):
    async with serve(model, engine([5], [5])) as served:
        with_shadow(served)
        served.servicer._shadows._max_requests = 0
        await generate(served)
        assert (await stats_where(served, lambda stats: stats.dropped == 1)).started == 0
