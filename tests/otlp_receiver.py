"""An OpenTelemetry collector of one's own: takes spans by OTLP over gRPC on loopback, and keeps them."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as pb_grpc


@dataclass(frozen=True, slots=True)
class ReceivedSpan:
    service: str
    name: str
    trace_id: str
    span_id: str
    parent_span_id: str
    began_ns: int
    ended_ns: int
    error: str
    attributes: dict[str, object]


class OtlpReceiver(pb_grpc.TraceServiceServicer):
    """Runs within `with`."""

    def __init__(self) -> None:
        self._spans: list[ReceivedSpan] = []
        self._news = threading.Condition()
        self._server = grpc.server(ThreadPoolExecutor(2))
        pb_grpc.add_TraceServiceServicer_to_server(self, self._server)
        self.endpoint = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def Export(self, request: pb.ExportTraceServiceRequest, context: object) -> pb.ExportTraceServiceResponse:
        found = [
            _received(resource, span)
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        with self._news:
            self._spans += found
            self._news.notify_all()
        return pb.ExportTraceServiceResponse()

    def trace(
        self, trace_id: str, is_whole: Callable[[list[ReceivedSpan]], bool], timeout_s: float = 30.0
    ) -> list[ReceivedSpan]:
        """The spans of a trace, by their start, once they satisfy `is_whole`; whatever came if never."""
        with self._news:
            self._news.wait_for(lambda: is_whole(self._of(trace_id)), timeout_s)
            return self._of(trace_id)

    def _of(self, trace_id: str) -> list[ReceivedSpan]:
        return sorted((s for s in self._spans if s.trace_id == trace_id), key=lambda s: s.began_ns)

    @property
    def spans(self) -> list[ReceivedSpan]:
        with self._news:
            return list(self._spans)

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.stop(None).wait()


def _received(resource, span) -> ReceivedSpan:
    service = next(
        each.value.string_value for each in resource.resource.attributes if each.key == "service.name"
    )
    return ReceivedSpan(
        service,
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        span.status.message,
        {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes},
    )
