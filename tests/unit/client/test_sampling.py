import pytest

from client.sampling import ChatMessage, SamplingParams, prompt_fields
from protos.multilora.v1 import inference_pb2 as pb


def test_the_fields_are_the_wires():
    assert set(SamplingParams.__slots__) == set(pb.SamplingParams.DESCRIPTOR.fields_by_name)


def test_what_is_not_said_is_not_sent():
    assert SamplingParams().to_proto() == pb.SamplingParams()
    assert SamplingParams().to_proto().ByteSize() == 0


def test_zero_is_sent():
    message = SamplingParams(temperature=0.0, seed=0, top_k=0).to_proto()
    assert all(message.HasField(name) for name in ("temperature", "seed", "top_k"))
    assert not message.HasField("max_tokens")


def test_lists_and_biases_are_sent():
    message = SamplingParams(stop=("\n",), stop_token_ids=(3,), logit_bias={5: -1.0}).to_proto()
    assert list(message.stop) == ["\n"]
    assert list(message.stop_token_ids) == [3]
    assert dict(message.logit_bias) == {5: -1.0}


@pytest.mark.parametrize("field", [{"seed": -1}, {"max_tokens": 1 << 40}])
def test_a_number_that_does_not_fit_its_field_is_refused(field):
    with pytest.raises(ValueError):
        SamplingParams(**field).to_proto()


def test_one_prompt_exactly():
    assert prompt_fields("hi", None, None) == {"text": "hi"}
    assert prompt_fields("", None, None) == {"text": ""}
    assert prompt_fields(None, [1, 2], None) == {"token_ids": pb.TokenIds(ids=[1, 2])}
    turns = prompt_fields(None, None, [ChatMessage("user", "hi")])
    assert turns == {"chat": pb.Chat(messages=[pb.ChatMessage(role="user", content="hi")])}
    with pytest.raises(ValueError, match="none"):
        prompt_fields(None, None, None)
    with pytest.raises(ValueError, match=r"text.*token_ids"):
        prompt_fields("hi", [1], None)
