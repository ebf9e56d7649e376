"""Generate through a real gRPC server, the engine played by a fake at the end of a real pipe."""

import asyncio

import grpc
import pytest

from protos.multilora.v1 import inference_pb2 as pb
from services.common.errors import Code, Reason, ServiceError
from services.inference.messages import (
    Cancel,
    Failed,
    Finished,
    Reply,
    Started,
    TokenLogprobs,
    Tokens,
)
from services.inference.request import FinishReason
from services.inference.token_stream import MAX_DELTA_TOKENS
from tests.fakes import FakeEngine, generate, silent
from tests.integration.inference.served import (
    SUPPORT,
    Served,
    error_of,
    kinds,
    read_all,
    serve,
    text_of,
)
from tests.small_tokenizers import BOS, EOS, byte_level

TOKENIZER = byte_level()


def encode(text: str) -> list[int]:
    return TOKENIZER.encode(text, add_special_tokens=False).ids


def letters(text: str) -> list[int]:
    return [TOKENIZER.token_to_id(letter) for letter in text]


async def one_started_call(served: Served, **fields):
    """A call whose `started` has been read, and its request in the engine."""
    call = served.stub.Generate(pb.GenerateRequest(text="hello", **fields))
    request = await served.engine.next_request()
    served.engine.send(Started(request.request_id, 1, 0.25, 0.5))
    assert (await call.read()).WhichOneof("event") == "started"
    return call, request.request_id


async def test_started_first_then_deltas_then_finished_once(model):
    async with serve(model, FakeEngine(generate(encode("größe 東京 🦊")))) as served:
        request = pb.GenerateRequest(text="hello", adapter="acme/support", request_id="mine")
        responses = await read_all(served.stub.Generate(request))
    assert kinds(responses)[:1] == ["started"]
    assert kinds(responses)[-1:] == ["finished"]
    assert set(kinds(responses)[1:-1]) == {"delta"}
    started, finished = responses[0].started, responses[-1].finished
    assert (started.request_id, started.num_prompt_tokens) == ("mine", len(TOKENIZER.encode("hello").ids))
    assert (started.adapter_version, started.adapter_key) == (SUPPORT.version_name, SUPPORT.key)
    assert text_of(responses) == "größe 東京 🦊"
    assert [t for r in responses for t in r.delta.token_ids] == encode("größe 東京 🦊")
    assert (finished.reason, finished.matched_stop) == (pb.LENGTH, "")
    assert finished.usage.prompt_tokens == started.num_prompt_tokens
    assert finished.usage.completion_tokens == len(encode("größe 東京 🦊"))
    assert (finished.timing.queue_s, finished.timing.adapter_wait_s) == (0.25, 0.5)
    assert 0 < finished.timing.ttft_s <= finished.timing.total_s


async def test_defaults_are_filled_in_before_the_engine_sees_the_request(served):
    call = served.stub.Generate(pb.GenerateRequest(text="hello"), timeout=60)
    request = await served.engine.next_request()
    assert request.prompt_token_ids == tuple(TOKENIZER.encode("hello").ids)
    assert request.prompt_token_ids[0] == TOKENIZER.token_to_id(BOS)
    assert request.adapter is None
    assert request.sampling.max_tokens == 256 - len(request.prompt_token_ids)
    assert request.sampling.seed is not None
    assert request.eos_token_ids == (TOKENIZER.token_to_id(EOS),)
    assert 50 < request.deadline_s - request.arrival_s <= 60
    call.cancel()


async def test_every_sampling_field_reaches_the_engine(served):
    sampling = pb.SamplingParams(
        max_tokens=9,
        min_tokens=2,
        temperature=0.5,
        top_p=0.25,
        top_k=7,
        min_p=0.125,
        seed=2**64 - 1,
        stop=["x", "y"],
        stop_token_ids=[4, 5],
        ignore_eos=True,
        logprobs=0,
        presence_penalty=1.0,
        frequency_penalty=-1.0,
        repetition_penalty=1.5,
        logit_bias={3: -2.0, 1: 4.0},
    )
    request = pb.GenerateRequest(token_ids=pb.TokenIds(ids=[1, 2]), sampling=sampling, priority=-3)
    call = served.stub.Generate(request)
    inner = await served.engine.next_request()
    for name in ("max_tokens", "min_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "ignore_eos"):
        assert getattr(inner.sampling, name) == getattr(sampling, name), name
    for name in ("logprobs", "presence_penalty", "frequency_penalty", "repetition_penalty"):
        assert getattr(inner.sampling, name) == getattr(sampling, name), name
    assert inner.sampling.stop == ("x", "y")
    assert inner.sampling.stop_token_ids == (4, 5)
    assert inner.sampling.logit_bias == ((1, 4.0), (3, -2.0))
    assert (inner.prompt_token_ids, inner.priority, inner.deadline_s) == ((1, 2), -3, None)
    call.cancel()


async def test_chats_are_rendered_and_not_given_special_tokens_twice(served):
    messages = [pb.ChatMessage(role="user", content="hello")]
    call = served.stub.Generate(pb.GenerateRequest(chat=pb.Chat(messages=messages)))
    request = await served.engine.next_request()
    assert request.prompt_token_ids == (TOKENIZER.token_to_id(BOS), *encode("hello:"))
    call.cancel()


async def test_callers_may_reuse_their_ids(served):
    requests = [pb.GenerateRequest(text="hello", request_id="same") for _ in range(2)]
    calls = [served.stub.Generate(request) for request in requests]
    for _ in calls:
        request = await served.engine.next_request()
        served.engine.send(
            Started(request.request_id, 0, 0, 0), Finished(request.request_id, FinishReason.LENGTH)
        )
    for call in calls:
        started, _ = await read_all(call)
        assert started.started.request_id == "same"


async def test_an_id_is_made_up_where_none_is_given(model):
    async with serve(model, FakeEngine(generate([]))) as served:
        calls = [served.stub.Generate(pb.GenerateRequest(text="hello")) for _ in range(2)]
        ids = {(await read_all(call))[0].started.request_id for call in calls}
    assert len(ids) == 2
    assert all(len(made_up) == 32 for made_up in ids)


async def test_a_stop_string_over_token_borders_ends_the_request_in_the_engine(served):
    call, request_id = await one_started_call(served, sampling=pb.SamplingParams(stop=["lo w"]))
    for token_id in letters("hello"):
        served.engine.send(Tokens(request_id, (token_id,)))
    served.engine.send(Tokens(request_id, tuple(encode(" world and on"))))
    responses = await read_all(call)
    assert await served.engine.next_command() == Cancel(request_id, FinishReason.STOP)
    finished = responses[-1].finished
    assert text_of(responses) == "hel"
    assert (finished.reason, finished.matched_stop) == (pb.STOP, "lo w")
    assert finished.usage.completion_tokens == sum(len(r.delta.token_ids) for r in responses)


async def test_a_stop_token_is_named_in_decimal(served):
    call, request_id = await one_started_call(served)
    served.engine.send(Finished(request_id, FinishReason.STOP, stop_token_id=17))
    (finished,) = await read_all(call)
    assert (finished.finished.reason, finished.finished.matched_stop) == (pb.STOP, "17")


async def test_logprobs_come_with_their_tokens(served):
    call, request_id = await one_started_call(served, sampling=pb.SamplingParams(logprobs=2))
    chosen = TokenLogprobs(5, -0.5, ((7, -0.25), (5, -0.5)))
    served.engine.send(Tokens(request_id, (5,), (chosen,)), Finished(request_id, FinishReason.LENGTH))
    delta = (await read_all(call))[0].delta
    assert [(row.token_id, row.logprob) for row in delta.logprobs] == [(5, -0.5)]
    assert [(best.token_id, best.logprob) for best in delta.logprobs[0].top] == [(7, -0.25), (5, -0.5)]


async def test_a_cancelled_call_is_cancelled_in_the_engine(served):
    call, request_id = await one_started_call(served)
    call.cancel()
    assert await served.engine.next_command() == Cancel(request_id, FinishReason.CANCELLED)


async def test_a_call_cancelled_before_its_first_event_is_cancelled_in_the_engine(served):
    call = served.stub.Generate(pb.GenerateRequest(text="hello"))
    request = await served.engine.next_request()
    call.cancel()
    assert await served.engine.next_command() == Cancel(request.request_id, FinishReason.CANCELLED)


async def test_a_dead_client_is_cancelled_in_the_engine(model, tmp_path):
    async with serve(model, FakeEngine(silent)) as served:
        call, request_id = await one_started_call(served)
    del call
    assert await served.engine.next_command() == Cancel(request_id, FinishReason.CANCELLED)


async def test_a_deadline_ends_the_request_in_the_engine_too(served):
    call = served.stub.Generate(pb.GenerateRequest(text="hello"), timeout=0.2)
    request = await served.engine.next_request()
    # gRPC rounds timeouts up on the wire.
    assert 0 < request.deadline_s - request.arrival_s <= 0.21
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await read_all(call)
    assert raised.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert await served.engine.next_command() == Cancel(request.request_id, FinishReason.CANCELLED)


NUM_FLOOD_TOKENS, FLOOD_STEP = 40_000, 100


async def flood(served: Served, request_id: str) -> None:
    """More than HTTP/2 buffers for a client that does not read; returns when all has been taken in."""
    chosen = TokenLogprobs(300, -1.0, tuple((token_id, -1.5) for token_id in range(20)))
    tokens = Tokens(request_id, (300,) * FLOOD_STEP, (chosen,) * FLOOD_STEP)
    for _ in range(NUM_FLOOD_TOKENS // FLOOD_STEP):
        await asyncio.to_thread(served.engine.send, tokens)
    answer = asyncio.create_task(served.client.list_resident())
    listing = await served.engine.next_command()
    served.engine.send(Reply(listing.call_id, ()))
    await answer


async def test_a_slow_reader_gets_bigger_deltas(served):
    call, request_id = await one_started_call(served, sampling=pb.SamplingParams(logprobs=20))
    await flood(served, request_id)
    served.engine.send(Finished(request_id, FinishReason.LENGTH))
    responses = await read_all(call)
    sizes = [len(response.delta.token_ids) for response in responses]
    assert responses[-1].finished.usage.completion_tokens == sum(sizes) == NUM_FLOOD_TOKENS
    assert max(sizes) == MAX_DELTA_TOKENS
    assert len(sizes) < NUM_FLOOD_TOKENS // FLOOD_STEP


async def test_a_client_that_goes_away_while_the_server_waits_to_write_is_cancelled(served):
    call, request_id = await one_started_call(served, sampling=pb.SamplingParams(logprobs=20))
    await flood(served, request_id)
    call.cancel()
    assert await served.engine.next_command() == Cancel(request_id, FinishReason.CANCELLED)


async def test_the_engines_refusals_reach_the_caller(served):
    refusals = [
        (Code.RESOURCE_EXHAUSTED, Reason.QUEUE_FULL, 1.0),
        (Code.DEADLINE_EXCEEDED, Reason.DEADLINE, None),
        (Code.RESOURCE_EXHAUSTED, Reason.POOL_TOO_SMALL, None),
        (Code.UNAVAILABLE, Reason.STORE_UNAVAILABLE, 2.0),
    ]
    for code, reason, retry_after_s in refusals:
        call = served.stub.Generate(pb.GenerateRequest(text="hello"))
        request = await served.engine.next_request()
        error = ServiceError(code, reason, "refused", retry_after_s=retry_after_s)
        served.engine.send(Failed(request.request_id, error))
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await read_all(call)
        assert error_of(raised.value) == (code.value, reason.value, "", retry_after_s)


async def test_the_engines_death_fails_running_and_new_streams(served):
    call, _ = await one_started_call(served)
    served.engine.die()
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await read_all(call)
    assert error_of(raised.value)[:2] == ("UNAVAILABLE", "ENGINE_DOWN")
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await read_all(served.stub.Generate(pb.GenerateRequest(text="hello")))
    assert error_of(raised.value)[:2] == ("UNAVAILABLE", "ENGINE_DOWN")


async def test_a_draining_server_refuses_new_streams_and_ends_the_old(served):
    call, request_id = await one_started_call(served)
    draining = asyncio.create_task(served.servicer.drain())
    await asyncio.sleep(0)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await read_all(served.stub.Generate(pb.GenerateRequest(text="hello")))
    code, reason, _, retry_s = error_of(raised.value)
    assert (code, reason) == ("UNAVAILABLE", "DRAINING")
    assert retry_s > 0
    assert not draining.done()
    assert repr(served.servicer) == "InferenceServicer(draining, working=1)"
    served.engine.send(Tokens(request_id, tuple(encode("hello"))), Finished(request_id, FinishReason.LENGTH))
    responses = await read_all(call)
    assert text_of(responses) == "hello"
    await draining
