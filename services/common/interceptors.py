"""Turns whatever a handler raises into a google.rpc.Status, and logs one line a call.

An exception that is no ServiceError is a defect: the caller learns an incident id, never its text.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from services.common.errors import Code, Reason, ServiceError

log = logging.getLogger(__name__)

DOMAIN = "multilora"

# A status travels in trailing metadata, of which gRPC peers take about 8 KiB.
MAX_MESSAGE_CHARS = 1000
MAX_VALUE_CHARS = 500


def to_status(error: ServiceError) -> status_pb2.Status:
    """`error` as a google.rpc.Status with ErrorInfo, and BadRequest or RetryInfo where they apply."""
    details: list[any_pb2.Any] = []

    def add(message: Any) -> None:
        packed = any_pb2.Any()
        packed.Pack(message)
        details.append(packed)

    text, field = _clip(error.message, MAX_MESSAGE_CHARS), _clip(error.field, MAX_VALUE_CHARS)
    metadata = {key: _clip(value, MAX_VALUE_CHARS) for key, value in error.metadata.items()}
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


def _clip(text: str, max_chars: int) -> str:
    """`text` short enough to travel, and without lone surrogates, which UTF-8 cannot carry."""
    short = text if len(text) <= max_chars else text[: max_chars - 3] + "..."
    return short.encode("utf-8", "replace").decode("utf-8")


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Maps ServiceError to its status and any other exception to INTERNAL with an incident id."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wraps the handler so that every way out of it is a status."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return handler
        method = handler_call_details.method
        if handler.response_streaming:
            inner = handler.unary_stream or handler.stream_stream
            wrap = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
            behavior: Any = _guard_stream(inner, method)
        else:
            inner = handler.unary_unary or handler.stream_unary
            wrap = (
                grpc.stream_unary_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_unary_rpc_method_handler
            )
            behavior = _guard_unary(inner, method)
        return wrap(behavior, handler.request_deserializer, handler.response_serializer)


def _guard_unary(inner: Any, method: str) -> Any:
    async def guarded(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        started_s = time.monotonic()
        try:
            response = await inner(request, context)
        except BaseException as error:
            await _abort(context, error, method, started_s)
            raise
        _log_call(method, "OK", started_s)
        return response

    return guarded


def _guard_stream(inner: Any, method: str) -> Any:
    async def guarded(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        started_s = time.monotonic()
        responses = inner(request, context)
        try:
            async for response in responses:
                yield response
        except GeneratorExit:
            # The client went away while this was suspended in `yield`: nobody is left to answer.
            _log_call(method, "CANCELLED", started_s)
            raise
        except BaseException as error:
            await _abort(context, error, method, started_s)
            raise
        finally:
            await responses.aclose()
        _log_call(method, "OK", started_s)

    return guarded


async def _abort(
    context: grpc.aio.ServicerContext[Any, Any], error: BaseException, method: str, started_s: float
) -> None:
    if isinstance(error, asyncio.CancelledError):
        _log_call(method, "CANCELLED", started_s)
        return
    if isinstance(error, grpc.aio.AbortError):
        return
    if not isinstance(error, ServiceError):
        incident = uuid.uuid4().hex[:12]
        log.error("%s failed, incident %s", method, incident, exc_info=error)
        error = ServiceError(
            Code.INTERNAL,
            Reason.INTERNAL_ERROR,
            f"internal error, incident {incident}: the server's log has the details",
            metadata={"incident": incident},
        )
    _log_call(method, error.code.value, started_s)
    await context.abort_with_status(rpc_status.to_status(to_status(error)))


def _log_call(method: str, code: str, started_s: float) -> None:
    level = logging.DEBUG if code == "OK" else logging.INFO
    log.log(level, "%s %s %.1f ms", method, code, (time.monotonic() - started_s) * 1e3)
