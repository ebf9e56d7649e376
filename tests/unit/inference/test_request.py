import pickle

import pytest

from services.common.errors import Code, Reason, ServiceError
from services.inference.request import SamplingParams


@pytest.mark.parametrize(
    ("params", "field"),
    [
        (SamplingParams(max_tokens=-1), "sampling.max_tokens"),
        (SamplingParams(min_tokens=-1), "sampling.min_tokens"),
        (SamplingParams(max_tokens=2, min_tokens=3), "sampling.min_tokens"),
        (SamplingParams(temperature=-0.1), "sampling.temperature"),
        (SamplingParams(temperature=float("nan")), "sampling.temperature"),
        (SamplingParams(temperature=float("inf")), "sampling.temperature"),
        (SamplingParams(top_p=0.0), "sampling.top_p"),
        (SamplingParams(top_p=1.01), "sampling.top_p"),
        (SamplingParams(top_k=-1), "sampling.top_k"),
        (SamplingParams(min_p=1.5), "sampling.min_p"),
        (SamplingParams(presence_penalty=2.1), "sampling.presence_penalty"),
        (SamplingParams(frequency_penalty=-2.1), "sampling.frequency_penalty"),
        (SamplingParams(repetition_penalty=0.0), "sampling.repetition_penalty"),
        (SamplingParams(stop=("a",) * 17), "sampling.stop"),
        (SamplingParams(stop=("",)), "sampling.stop"),
        (SamplingParams(stop_token_ids=(100,)), "sampling.stop_token_ids"),
        (SamplingParams(stop_token_ids=(1,) * 1025), "sampling.stop_token_ids"),
        (SamplingParams(stop_token_ids=tuple(range(99)), min_tokens=1), "sampling.stop_token_ids"),
        (
            SamplingParams(stop_token_ids=tuple(range(100)), min_tokens=1, ignore_eos=True),
            "sampling.stop_token_ids",
        ),
        (SamplingParams(logprobs=21), "sampling.logprobs"),
        (SamplingParams(logit_bias=((100, 1.0),)), "sampling.logit_bias"),
        (SamplingParams(logit_bias=((1, 101.0),)), "sampling.logit_bias"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(params: SamplingParams, field: str) -> None:
    with pytest.raises(ServiceError) as caught:
        params.check(vocab_size=100, eos_token_ids=(99,))
    assert (caught.value.code, caught.value.reason) == (Code.INVALID_ARGUMENT, Reason.INVALID_FIELD)
    assert caught.value.field == field
    assert field in caught.value.message


def test_the_edges_of_every_range_are_legal() -> None:
    SamplingParams().check(vocab_size=1)
    SamplingParams(
        max_tokens=1, min_tokens=1, temperature=0.0, top_p=1.0, min_p=1.0, presence_penalty=-2.0,
        frequency_penalty=2.0, repetition_penalty=100.0, logprobs=20, stop=("x",) * 16,
        stop_token_ids=(99,), logit_bias=((0, -100.0), (99, 100.0)),
    ).check(vocab_size=100)  # fmt: skip
    SamplingParams(stop_token_ids=tuple(range(100))).check(vocab_size=100)
    SamplingParams(stop_token_ids=tuple(range(99)), min_tokens=1, ignore_eos=True).check(100, (99,))


def test_a_service_error_crosses_a_pipe_whole() -> None:
    error = ServiceError(
        Code.ABORTED, Reason.ALIAS_MOVED, "moved", field="name", retry_after_s=1.5, metadata={"version": "3"}
    )
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.code, copy.reason, copy.message) == (error.code, error.reason, error.message)
    assert (copy.field, copy.retry_after_s, copy.metadata) == ("name", 1.5, {"version": "3"})
