"""Turns whatever a handler raises into a google.rpc.Status, and logs one line a call.

An exception that is no ServiceError is a defect: the caller learns an incident id, never its text.
"""

import asyncio
import inspect
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from services.common.errors import Code, Reason, ServiceError
from services.common.rpc_meter import RpcMeter
from services.common.tracing import ServerCall, Tracing

log = logging.getLogger(__name__)

DOMAIN = "multilora"

# A status travels in trailing metadata, of which gRPC peers take 8 KiB: the message three times (once
# percent-encoded, which makes three bytes of each that is not ASCII), the field twice, each value once.
MAX_TEXT_BYTES = 1000
MAX_VALUE_BYTES = 500


def to_status(error: ServiceError) -> status_pb2.Status:
    """`error` as a google.rpc.Status with ErrorInfo, and BadRequest or RetryInfo where they apply."""
    details: list[any_pb2.Any] = []

    def add(message: Any) -> None:
        packed = any_pb2.Any()
        packed.Pack(message)
        details.append(packed)

    text, field = _clip(error.message, MAX_TEXT_BYTES), _clip(error.field, MAX_VALUE_BYTES)
    metadata = {key: _clip(value, MAX_VALUE_BYTES) for key, value in error.metadata.items()}
    if field:
        metadata.setdefault("field", field)
    add(error_details_pb2.ErrorInfo(reason=error.reason.value, domain=DOMAIN, metadata=metadata))
    if field:
        violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=text)
        add(error_details_pb2.BadRequest(field_violations=[violation]))
    if error.retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(error.retry_after_s * 1e9))
        add(error_details_pb2.RetryInfo(retry_delay=delay))
    return status_pb2.Status(code=code_pb2.Code.Value(error.code.value), message=text, details=details)


def _clip(text: str, max_bytes: int) -> str:
    """`text` short enough to travel, and without lone surrogates, which UTF-8 cannot carry."""
    data = text.encode("utf-8", "replace")
    if len(data) > max_bytes:
        data = data[: max_bytes - 3].decode("utf-8", "ignore").encode() + b"..."
    return data.decode("utf-8")


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Maps ServiceError to its status and any other exception to INTERNAL with an incident id.

    `meter` is told of every call that has ended, and `tracing` makes it a span.
    """

    def __init__(self, meter: RpcMeter, tracing: Tracing) -> None:
        self._meter = meter
        self._tracing = tracing

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wraps the handler so that every way out of it is a status."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return handler
        method, decode = handler_call_details.method, handler.request_deserializer
        if handler.response_streaming:
            inner = handler.unary_stream or handler.stream_stream
            wrap = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
            # A handler may also be a coroutine that writes to its context, as the health service's is.
            guard = _guard_unary if inspect.iscoroutinefunction(inner) else _guard_stream
        else:
            inner = handler.unary_unary or handler.stream_unary
            wrap = (
                grpc.stream_unary_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_unary_rpc_method_handler
            )
            guard = _guard_unary
        calls = _Calls(method, self._meter, self._tracing)
        behavior = guard(inner, calls, _reader(decode, handler.request_streaming))
        # Bytes come through as they are: gRPC would answer what it cannot decode with UNKNOWN.
        return wrap(behavior, None, handler.response_serializer)


class _Calls:
    """The calls of one method: each that ends is logged and metered."""

    def __init__(self, method: str, meter: RpcMeter, tracing: Tracing) -> None:
        self.method = method
        self._meter = meter
        self._tracing = tracing

    def begin(self, context: grpc.aio.ServicerContext[Any, Any]) -> ServerCall:
        """One begins, in the running task."""
        return self._tracing.begin(self.method, context.invocation_metadata() or ())

    def ended(self, code: str, call: ServerCall) -> None:
        """It has ended."""
        seconds = call.end(code)
        self._meter.note(self.method, code, seconds)
        level = logging.DEBUG if code == "OK" else logging.INFO
        log.log(level, "%s %s %.1f ms", self.method, code, seconds * 1e3)


class _Requests:
    """The decoded messages of a request stream. Closing is the business of gRPC's own iterator."""

    def __init__(self, raw: AsyncIterator[bytes], decode: Callable[[bytes], Any]) -> None:
        self._raw = raw
        self._decode = decode

    def __aiter__(self) -> "_Requests":
        return self

    async def __anext__(self) -> Any:
        return self._decode(await anext(self._raw))


def _reader(decode: Callable[[bytes], Any], is_stream: bool) -> Callable[[Any], Any]:
    """What makes a handler's argument of what gRPC hands over: one message's bytes, or an iterator."""

    def read(data: bytes) -> Any:
        try:
            return decode(data)
        except DecodeError as error:
            raise ServiceError(
                Code.INVALID_ARGUMENT,
                Reason.INVALID_FIELD,
                "the request is not the message that this call takes: send what a client made from "
                "protos/multilora/v1 sends, with text in UTF-8",
            ) from error

    def read_all(requests: Any) -> _Requests:
        return _Requests(aiter(requests), read)

    return read_all if is_stream else read


def _guard_unary(inner: Any, calls: "_Calls", read: Callable[[Any], Any]) -> Any:
    async def guarded(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        call = calls.begin(context)
        try:
            response = await inner(read(request), context)
        except asyncio.CancelledError:
            calls.ended("CANCELLED", call)
            raise
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            status = _answer(error, calls, call)
        else:
            calls.ended("OK", call)
            return response
        # Only now, and without the request: gRPC keeps what aborting raises, with this frame and whatever
        # it was raised in the handling of, until the garbage collector finds it.
        del request
        return await context.abort_with_status(status)

    return guarded


def _guard_stream(inner: Any, calls: "_Calls", read: Callable[[Any], Any]) -> Any:
    async def guarded(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        call = calls.begin(context)
        try:
            async with aclosing(inner(read(request), context)) as responses:
                async for response in responses:
                    yield response
        except (asyncio.CancelledError, GeneratorExit):
            # GeneratorExit: the client went away while this was suspended in `yield`.
            calls.ended("CANCELLED", call)
            raise
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            status = _answer(error, calls, call)
        else:
            calls.ended("OK", call)
            return
        # As above.
        del request
        await context.abort_with_status(status)

    return guarded


def _answer(error: Exception, calls: "_Calls", call: ServerCall) -> Any:
    """What the caller gets for `error`: its status, or that of an incident whose text the log has."""
    if not isinstance(error, ServiceError):
        incident = uuid.uuid4().hex[:12]
        log.error("%s failed, incident %s", calls.method, incident, exc_info=error)
        error = ServiceError(
            Code.INTERNAL,
            Reason.INTERNAL_ERROR,
            f"internal error, incident {incident}: the server's log has the details",
            metadata={"incident": incident},
        )
    calls.ended(error.code.value, call)
    return rpc_status.to_status(to_status(error))
