import grpc
import pytest

from client.errors import MultiloraError
from client.events import Delta, Finished, FinishReason, Started
from client.generate_stream import GenerateStream
from protos.multilora.v1 import inference_pb2 as pb
from tests.unit.client.rpc_failures import rpc_error

STARTED = pb.GenerateResponse(started=pb.Started(request_id="r1", adapter_version="v", num_prompt_tokens=3))
FINISHED = pb.GenerateResponse(finished=pb.Finished(reason=pb.STOP, matched_stop="3"))


def delta(text, *token_ids):
    return pb.GenerateResponse(delta=pb.Delta(text=text, token_ids=token_ids))


class FakeCall:
    """A call that yields `responses`, raising those that are exceptions."""

    def __init__(self, *responses):
        self._responses = responses
        self.is_cancelled = False

    async def __aiter__(self):
        for response in self._responses:
            if isinstance(response, Exception):
                raise response
            yield response

    def cancel(self):
        self.is_cancelled = True
        return True


async def test_events_in_order():
    stream = GenerateStream(FakeCall(STARTED, delta("en", 7, 8), delta("ots", 9), FINISHED))
    events = [event async for event in stream]
    assert [type(event) for event in events] == [Started, Delta, Delta, Finished]
    assert events[0].request_id == "r1"
    assert events[1].token_ids == (7, 8)
    assert events[3].reason is FinishReason.STOP


async def test_the_whole_of_it():
    generation = await GenerateStream(
        FakeCall(STARTED, delta("en", 7, 8), delta("ots", 9), FINISHED)
    ).result()
    assert generation.text == "enots"
    assert generation.token_ids == (7, 8, 9)
    assert generation.finished.matched_stop == "3"


async def test_text_pieces_skip_deltas_without_text():
    stream = GenerateStream(FakeCall(STARTED, delta("", 7), delta("a", 8), FINISHED))
    assert [piece async for piece in stream.deltas()] == ["a"]


@pytest.mark.parametrize("responses", [(), (STARTED,), (STARTED, delta("a", 1)), (FINISHED,)])
async def test_half_a_stream_is_no_result(responses):
    with pytest.raises(MultiloraError, match="DATA_LOSS"):
        await GenerateStream(FakeCall(*responses)).result()


async def test_an_event_of_a_newer_server_is_skipped():
    stream = GenerateStream(FakeCall(STARTED, pb.GenerateResponse(), FINISHED))
    assert len([event async for event in stream]) == 2


async def test_an_error_midway_is_raised_after_what_came():
    events = aiter(GenerateStream(FakeCall(STARTED, delta("a", 1), rpc_error(grpc.StatusCode.UNAVAILABLE))))
    assert isinstance(await anext(events), Started)
    assert isinstance(await anext(events), Delta)
    with pytest.raises(MultiloraError, match="UNAVAILABLE"):
        await anext(events)


async def test_leaving_the_block_cancels_the_call():
    call = FakeCall(STARTED, delta("a", 1), FINISHED)
    async with GenerateStream(call) as stream:
        async for _ in stream:
            break
    assert call.is_cancelled
