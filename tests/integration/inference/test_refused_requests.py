"""Every Generate request that the front end refuses, with its code, reason and field."""

import grpc
import pytest

from protos.multilora.v1 import inference_pb2 as pb
from tests.fakes import FakeEngine, silent
from tests.integration.inference.served import (
    Served,
    error_of,
    read_all,
    read_model,
    serve,
    write_model_dir,
)

BAD_REQUESTS = {
    "no prompt": ({}, "INVALID_FIELD", "prompt"),
    "empty text": ({"text": ""}, "INVALID_FIELD", "prompt.text"),
    "no token ids": ({"token_ids": pb.TokenIds()}, "INVALID_FIELD", "prompt.token_ids"),
    "token id negative": ({"token_ids": pb.TokenIds(ids=[1, -1])}, "INVALID_FIELD", "prompt.token_ids"),
    "token id too high": ({"token_ids": pb.TokenIds(ids=[1, 10**6])}, "INVALID_FIELD", "prompt.token_ids"),
    "no messages": ({"chat": pb.Chat()}, "INVALID_FIELD", "prompt.chat"),
    "refused by the template": (
        {"chat": pb.Chat(messages=[pb.ChatMessage(role="robot", content="x")])},
        "INVALID_FIELD",
        "prompt.chat",
    ),
    "prompt as long as the context": (
        {"token_ids": pb.TokenIds(ids=[1] * 256)},
        "CONTEXT_EXCEEDED",
        "prompt.token_ids",
    ),
    "long text": ({"text": "hello " * 5000}, "CONTEXT_EXCEEDED", "prompt.text"),
    "long chat": (
        {"chat": pb.Chat(messages=[pb.ChatMessage(role="user", content="hello " * 5000)])},
        "CONTEXT_EXCEEDED",
        "prompt.chat",
    ),
    "request_id": ({"text": "a", "request_id": "x" * 129}, "INVALID_FIELD", "request_id"),
    "adapter": ({"text": "a", "adapter": "No Such/Name"}, "INVALID_FIELD", "adapter"),
}
BAD_SAMPLING = {
    "max_tokens": [{"max_tokens": 0}, {"max_tokens": -1}],
    "min_tokens": [{"min_tokens": -1}, {"min_tokens": 3, "max_tokens": 2}],
    "temperature": [{"temperature": -0.5}, {"temperature": float("nan")}],
    "top_p": [{"top_p": 0.0}, {"top_p": 1.5}],
    "top_k": [{"top_k": -1}],
    "min_p": [{"min_p": -0.1}, {"min_p": 2.0}],
    "stop": [{"stop": ["x"] * 17}, {"stop": [""]}],
    "stop_token_ids": [{"stop_token_ids": [10**6]}, {"stop_token_ids": [-1]}],
    "logprobs": [{"logprobs": 21}, {"logprobs": -1}],
    "presence_penalty": [{"presence_penalty": 2.5}],
    "frequency_penalty": [{"frequency_penalty": -2.5}],
    "repetition_penalty": [{"repetition_penalty": 0.0}],
    "logit_bias": [
        {"logit_bias": {10**6: 1.0}},
        {"logit_bias": {1: float("inf")}},
        {"logit_bias": {1: 101.0}},
    ],
}


async def refused(served: Served, request: pb.GenerateRequest) -> tuple[str, str, str, float | None]:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await read_all(served.stub.Generate(request))
    error = error_of(raised.value)
    assert error[2] == "" or error[2] in raised.value.details()
    return error


@pytest.mark.parametrize("case", BAD_REQUESTS)
async def test_a_bad_request_names_its_field(served, case):
    fields, reason, field = BAD_REQUESTS[case]
    assert await refused(served, pb.GenerateRequest(**fields)) == ("INVALID_ARGUMENT", reason, field, None)


@pytest.mark.parametrize("name", BAD_SAMPLING)
async def test_a_bad_sampling_value_names_its_field(served, name):
    for values in BAD_SAMPLING[name]:
        request = pb.GenerateRequest(text="a", sampling=pb.SamplingParams(**values))
        expected = ("INVALID_ARGUMENT", "INVALID_FIELD", f"sampling.{name}", None)
        assert await refused(served, request) == expected, values


@pytest.mark.parametrize("name", ["max_tokens", "min_tokens"])
async def test_more_tokens_than_the_context_has_room_for_are_refused(served, name):
    ids = pb.TokenIds(ids=[1] * 200)
    fits = pb.SamplingParams(max_tokens=56)
    call = served.stub.Generate(pb.GenerateRequest(token_ids=ids, sampling=fits))
    assert (await served.engine.next_request()).sampling.max_tokens == 56
    call.cancel()
    request = pb.GenerateRequest(token_ids=ids, sampling=pb.SamplingParams(**{name: 57}))
    assert await refused(served, request) == (
        "INVALID_ARGUMENT",
        "CONTEXT_EXCEEDED",
        f"sampling.{name}",
        None,
    )


async def test_an_unknown_adapter_is_never_answered_by_the_base_model(served):
    error = await refused(served, pb.GenerateRequest(text="a", adapter="acme/nobody"))
    assert error == ("NOT_FOUND", "ADAPTER_NOT_FOUND", "", None)
    assert served.store.resolved == ["acme/nobody"]


async def test_a_model_without_a_template_says_so(tmp_path):
    model = read_model(write_model_dir(tmp_path))
    async with serve(model, FakeEngine(silent)) as served:
        chat = pb.Chat(messages=[pb.ChatMessage(role="user", content="x")])
        error = await refused(served, pb.GenerateRequest(chat=chat))
    assert error[:2] == ("FAILED_PRECONDITION", "NO_CHAT_TEMPLATE")
