"""RequestStream: order, timing and one end, whatever the engine sends and when it is read."""

import asyncio

import pytest

from services.common.errors import Code, Reason, ServiceError
from services.inference.detokenizer import Detokenizer, TokenBytes
from services.inference.messages import Cancel, Failed, Finished, Started, Tokens
from services.inference.request import FinishReason, Request, SamplingParams
from services.inference.stream import End, RequestStream
from services.inference.token_stream import Delta
from tests.small_tokenizers import byte_level

TOKENIZER = byte_level()
TOKEN_BYTES = TokenBytes(TOKENIZER)
STARTED = Started("r1", 2, queue_s=0.5, adapter_wait_s=0.25)


class Clock:
    def __init__(self) -> None:
        self.now_s = 10.0

    def __call__(self) -> float:
        return self.now_s


def make(clock: Clock | None = None, **sampling) -> RequestStream:
    request = Request("r1", (1, 2), None, SamplingParams(**sampling), arrival_s=10.0)
    return RequestStream(request, Detokenizer(TOKEN_BYTES, follows_text=True), clock or Clock())


def tokens(text: str) -> Tokens:
    return Tokens("r1", tuple(TOKENIZER.token_to_id(letter) for letter in text))


async def read_all(stream: RequestStream) -> list[Started | Delta | End]:
    return [event async for event in stream.read()]


async def test_started_then_deltas_then_one_end_with_its_times():
    clock = Clock()
    stream = make(clock)
    reading = asyncio.create_task(read_all(stream))
    for advance_s, event in (
        (1, STARTED),
        (1, tokens("ab")),
        (1, tokens("c")),
        (1, Finished("r1", FinishReason.LENGTH)),
    ):
        clock.now_s += advance_s
        assert stream.put(event) is None
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    started, first, second, end = await reading
    assert started == STARTED
    assert (first.text, second.text) == ("ab", "c")
    assert (end.reason, end.matched_stop, end.completion_tokens) == (FinishReason.LENGTH, "", 3)
    assert (end.timing.queue_s, end.timing.adapter_wait_s) == (0.5, 0.25)
    assert (end.timing.ttft_s, end.timing.total_s) == (2.0, 4.0)


async def test_a_slow_reader_finds_one_delta():
    stream = make()
    stream.put(STARTED)
    for _ in range(100):
        stream.put(tokens("a"))
    stream.put(Finished("r1", FinishReason.LENGTH))
    _, delta, end = await read_all(stream)
    assert (delta.text, len(delta.token_ids), end.completion_tokens) == ("a" * 100, 100, 100)


async def test_a_stop_string_ends_the_request_unread_and_nothing_follows():
    stream = make(stop=("bc",))
    stream.put(STARTED)
    assert stream.put(tokens("ab")) is None
    assert stream.put(tokens("cd")) == Cancel("r1", FinishReason.STOP)
    assert stream.put(tokens("e")) is None
    assert stream.put(Finished("r1", FinishReason.STOP)) is None
    _, delta, end = await read_all(stream)
    assert delta.text == "a"
    assert (end.reason, end.matched_stop, end.completion_tokens) == (FinishReason.STOP, "bc", 3)


async def test_a_stop_token_is_named_and_held_text_is_delivered():
    stream = make(stop=("abc",))
    for event in (STARTED, tokens("ab"), Finished("r1", FinishReason.STOP, stop_token_id=7)):
        stream.put(event)
    _, delta, end = await read_all(stream)
    assert delta.text == "ab"
    assert (end.reason, end.matched_stop) == (FinishReason.STOP, "7")


async def test_no_tokens_at_all_still_has_a_start_and_an_end():
    clock = Clock()
    stream = make(clock)
    clock.now_s += 3
    stream.put(Finished("r1", FinishReason.CANCELLED))
    started, end = await read_all(stream)
    assert started == Started("r1", 0, queue_s=3.0, adapter_wait_s=0.0)
    assert (end.reason, end.timing.ttft_s, end.timing.total_s) == (FinishReason.CANCELLED, 3.0, 3.0)


@pytest.mark.parametrize("before", [(), (STARTED,), (STARTED, Tokens("r1", (5,)))])
async def test_a_failure_is_an_error_at_once(before):
    error = ServiceError(Code.UNAVAILABLE, Reason.ENGINE_DOWN, "gone")
    stream = make()
    for event in (*before, Failed("r1", error)):
        stream.put(event)
    with pytest.raises(ServiceError) as raised:
        await read_all(stream)
    assert raised.value is error
