"""Sends spans to an OpenTelemetry collector by OTLP over gRPC, in batches, from a thread of the SDK's.

When the collector is away, spans are dropped: nobody waits for it. Must not know what is traced.
"""

import time

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from services.common.tracing import Span

TIMEOUT_S = 5.0


class OtlpSpans:
    """A SpanSink. `endpoint` is http://HOST:PORT, or https:// for TLS; `service` is the service.name."""

    def __init__(self, endpoint: str, service: str) -> None:
        exporter = OTLPSpanExporter(endpoint, insecure=endpoint.startswith("http://"), timeout=TIMEOUT_S)
        self._processor = BatchSpanProcessor(exporter)
        self._resource = Resource.create({"service.name": service})
        self._scope = InstrumentationScope("multilora")
        self._epoch_ns = time.time_ns() - time.monotonic_ns()

    def put(self, span: Span) -> None:
        """Queues it; drops it if the queue is full."""
        context = span.context
        parent = _context(context.trace_id, span.parent_span_id) if span.parent_span_id else None
        self._processor.on_end(
            ReadableSpan(
                span.name,
                context=_context(context.trace_id, context.span_id),
                parent=parent,
                resource=self._resource,
                attributes=span.attributes,
                kind=SpanKind.SERVER if span.is_server else SpanKind.INTERNAL,
                status=Status(StatusCode.ERROR, span.error) if span.error else Status(),
                start_time=self._epoch_ns + int(span.began_s * 1e9),
                end_time=self._epoch_ns + int(span.ended_s * 1e9),
                instrumentation_scope=self._scope,
            )
        )

    def close(self) -> None:
        """Sends what is queued, for a few seconds at most."""
        self._processor.shutdown()  # type: ignore[no-untyped-call]


def _context(trace_id: str, span_id: str) -> SpanContext:
    return SpanContext(int(trace_id, 16), int(span_id, 16), True, TraceFlags(TraceFlags.SAMPLED))
