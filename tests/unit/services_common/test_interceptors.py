from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2

from services.common.errors import Code, Reason, ServiceError
from services.common.interceptors import to_status


def details(error: ServiceError) -> dict[str, Message]:
    found = {}
    for packed in to_status(error).details:
        for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo):
            if packed.Is(kind.DESCRIPTOR):
                message = kind()
                packed.Unpack(message)
                found[kind.__name__] = message
    return found


def test_every_code_is_known_to_grpc():
    for code in Code:
        assert to_status(ServiceError(code, Reason.INTERNAL_ERROR, "x")).code == code_pb2.Code.Value(
            code.value
        )


def test_plain_error_has_only_error_info():
    error = ServiceError(Code.NOT_FOUND, Reason.FILE_NOT_FOUND, "words", metadata={"a": "b"})
    found = details(error)
    assert to_status(error).message == "words"
    assert set(found) == {"ErrorInfo"}
    info = found["ErrorInfo"]
    assert (info.reason, info.domain, dict(info.metadata)) == ("FILE_NOT_FOUND", "multilora", {"a": "b"})


def test_field_and_retry():
    error = ServiceError(
        Code.RESOURCE_EXHAUSTED, Reason.QUEUE_FULL, "words", field="size", retry_after_s=1.25
    )
    found = details(error)
    assert found["ErrorInfo"].metadata["field"] == "size"
    (violation,) = found["BadRequest"].field_violations
    assert (violation.field, violation.description) == ("size", "words")
    delay = found["RetryInfo"].retry_delay
    assert (delay.seconds, delay.nanos) == (1, 250_000_000)


def test_hostile_words_still_make_a_small_status():
    """Trailing metadata over 8 KiB is dropped on the way, and a lone surrogate cannot be encoded."""
    error = ServiceError(
        Code.INVALID_ARGUMENT,
        Reason.INVALID_FIELD,
        "\ud800" + "x" * 50_000,
        field="é\udfff" * 9_000,
        metadata={"k": "v" * 50_000},
    )
    status = to_status(error)
    assert status.ByteSize() < 6_000
    assert status.message.startswith("?xxx")
    assert status.message.endswith("...")


def test_words_that_are_not_ascii_are_counted_in_bytes():
    """Each of these four bytes is three in the percent-encoded grpc-message."""
    emoji = "\N{GRINNING FACE}" * 5000
    error = ServiceError(
        Code.INVALID_ARGUMENT, Reason.INVALID_FIELD, emoji, field=emoji, metadata={"k": emoji}
    )
    status = to_status(error)
    on_the_wire_bytes = 3 * len(status.message.encode()) + status.ByteSize() * 4 / 3
    assert on_the_wire_bytes < 8000
    assert status.message.endswith("\N{GRINNING FACE}...")
