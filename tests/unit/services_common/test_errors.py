import pickle

import pytest

from protos.multilora.v1 import error_reason_pb2
from services.common.errors import Code, Reason, ServiceError, invalid_field, not_found, unavailable


def test_reasons_are_those_of_the_wire():
    assert {reason.value for reason in Reason} == set(error_reason_pb2.ErrorReason.keys()) - {
        "ERROR_REASON_UNSPECIFIED"
    }


def test_an_error_survives_a_pipe_between_processes():
    error = ServiceError(
        Code.ABORTED, Reason.STALE_ETAG, "words", field="f", retry_after_s=1.5, metadata={"a": "b"}
    )
    copy = pickle.loads(pickle.dumps(error))
    assert isinstance(copy, ServiceError)
    assert vars(copy) == vars(error)
    assert str(copy) == "words"
    assert repr(copy) == repr(error)


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (invalid_field("size", "too big"), Code.INVALID_ARGUMENT, Reason.INVALID_FIELD),
        (not_found(Reason.FILE_NOT_FOUND, "x"), Code.NOT_FOUND, Reason.FILE_NOT_FOUND),
        (unavailable(Reason.DRAINING, "x", 2.0), Code.UNAVAILABLE, Reason.DRAINING),
    ],
)
def test_shorthands(error, code, reason):
    assert (error.code, error.reason) == (code, reason)


def test_an_invalid_field_is_named_twice():
    error = invalid_field("size", "too big")
    assert (error.field, error.message) == ("size", "size: too big")


def test_metadata_is_a_copy():
    metadata = {"a": "b"}
    error = ServiceError(Code.INTERNAL, Reason.INTERNAL_ERROR, "x", metadata=metadata)
    metadata["a"] = "c"
    assert error.metadata == {"a": "b"}
