import pytest

from client import Delta, Finished, FinishReason, MultiloraError, Started, Timing, Usage
from demo.stack import adapter_name
from demo.streams import State, Stream, plan_streams, run_streams
from demo.summary import closing_line
from demo.tasks import TASKS


class FakeClient:
    """Answers every request for an adapter with `answers[adapter]`, a text or an error."""

    def __init__(self, **answers):
        self.answers = answers

    async def generate(self, *, adapter, text, sampling):
        assert sampling.temperature == 0
        answer = self.answers[adapter or "base"]
        yield Started("r", f"tenants/acme/adapters/{adapter}/versions/1" if adapter else "", "", 3, 0)
        if isinstance(answer, Exception):
            raise answer
        for letter in answer:
            yield Delta((ord(letter),), letter, ())
        yield Finished(FinishReason.STOP, "3", Usage(3, len(answer)), Timing(0, 0, 0, 0))


def test_every_adapter_is_asked_and_the_base_gets_the_same_prompts():
    streams = plan_streams()
    assert {stream.adapter for stream in streams} == {"", *(adapter_name(task.adapter) for task in TASKS)}
    asked = [stream for stream in streams if stream.adapter]
    assert len({(stream.adapter, stream.prompt) for stream in asked}) == len(asked)
    base = [stream for stream in streams if not stream.adapter]
    assert base
    assert {stream.prompt for stream in base} <= {stream.prompt for stream in asked}
    assert all(stream.expected is None for stream in base)


@pytest.mark.parametrize(
    ("answer", "expected", "state", "is_bad"),
    [
        ("enots", "enots", State.right, False),
        ("enots ", "enots", State.wrong, True),
        ("stone", None, State.base, False),
        (MultiloraError("UNAVAILABLE", "gone"), "enots", State.failed, True),
    ],
)
async def test_verdicts(answer, expected, state, is_bad):
    stream = Stream("" if expected is None else "a", "stone", expected)
    changes = []
    await run_streams(FakeClient(a=answer, base=answer), [stream], changes.append)
    assert (stream.state, stream.is_bad, stream.is_over) == (state, is_bad, True)
    assert changes[-1] is stream
    assert stream.error == ("UNAVAILABLE: gone" if state is State.failed else "")


async def test_streams_keep_their_own_text():
    streams = [Stream("a", "x", "one"), Stream("b", "x", "two"), Stream("", "x", None)]
    await run_streams(FakeClient(a="one", b="owt", base="x"), streams, lambda stream: None)
    assert [stream.text for stream in streams] == ["one", "owt", "x"]
    assert [stream.num_tokens for stream in streams] == [3, 3, 1]
    assert closing_line(streams) == "1 of 2 answers right, from 2 adapters over one base model."
