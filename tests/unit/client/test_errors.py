import pickle

import grpc
import pytest

from client.errors import MultiloraError, from_rpc_error, invalid, rpc_errors
from services.common.errors import Code, Reason, ServiceError, unavailable
from tests.unit.client.rpc_failures import rpc_error, rpc_error_of


def test_every_detail_of_a_status_arrives():
    sent = ServiceError(
        Code.OUT_OF_RANGE,
        Reason.WRONG_OFFSET,
        "write_offset: go on at 7",
        field="write_offset",
        metadata={"persisted_bytes": "7"},
    )
    error = from_rpc_error(rpc_error_of(sent))
    assert (error.code, error.reason, error.field) == ("OUT_OF_RANGE", "WRONG_OFFSET", "write_offset")
    assert error.metadata == {"persisted_bytes": "7"}
    assert error.retry_after_s is None
    assert str(error) == "OUT_OF_RANGE WRONG_OFFSET: write_offset: go on at 7"


def test_retry_info_is_seconds():
    error = from_rpc_error(rpc_error_of(unavailable(Reason.DRAINING, "draining", 2.5)))
    assert error.retry_after_s == pytest.approx(2.5)
    assert error.message == "draining"


def test_the_field_is_said_where_the_message_does_not():
    error = MultiloraError("INVALID_ARGUMENT", "must be positive", reason="INVALID_FIELD", field="max_tokens")
    assert str(error) == "INVALID_ARGUMENT INVALID_FIELD: must be positive (field: max_tokens)"


def test_an_unreachable_server_says_what_to_look_at():
    error = from_rpc_error(rpc_error(grpc.StatusCode.UNAVAILABLE, "connection refused"))
    assert error.reason == ""
    assert "is the service running" in error.message
    assert "connection refused" in error.message


def test_the_wrong_service_says_what_to_look_at():
    error = from_rpc_error(rpc_error(grpc.StatusCode.UNIMPLEMENTED, "Method not found!"))
    assert "other service's address" in error.message


def test_broken_details_leave_code_and_message():
    error = from_rpc_error(rpc_error(grpc.StatusCode.INTERNAL, "boom", details=b"\xff\xff\xff"))
    assert (error.code, error.message, error.reason) == ("INTERNAL", "boom", "")


def test_only_rpc_errors_are_translated():
    with pytest.raises(MultiloraError, match="NOT_FOUND: gone"), rpc_errors():
        raise rpc_error(grpc.StatusCode.NOT_FOUND, "gone")
    with pytest.raises(KeyError), rpc_errors():
        raise KeyError("mine")


def test_a_local_refusal_looks_like_the_servers():
    error = invalid("directory", "x is no directory")
    assert (error.code, error.reason, error.field) == ("INVALID_ARGUMENT", "INVALID_FIELD", "directory")


def test_an_error_survives_a_pipe_between_processes():
    error = MultiloraError(
        "ABORTED", "words", reason="STALE_ETAG", field="f", retry_after_s=1.5, metadata={"a": "b"}
    )
    copy = pickle.loads(pickle.dumps(error))
    assert isinstance(copy, MultiloraError)
    assert vars(copy) == vars(error)
