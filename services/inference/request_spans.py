"""The spans of a request: queue, prefill and decode from its events, fetch and load from the engine's I/O.

Owned by the front end's event loop. Must not know who takes spans.
"""

import time
from collections.abc import Callable

from services.common.trace_context import TraceContext, parse
from services.common.tracing import Attributes, Span, Tracing
from services.inference.engine_port import EventSink
from services.inference.messages import AdapterIoEnded, Cancel, Failed, Finished, Started, Tokens
from services.inference.request import Request


class RequestSpans:
    """Makes spans where the request is traced."""

    def __init__(self, tracing: Tracing, clock: Callable[[], float] = time.monotonic) -> None:
        self.tracing = tracing
        self.clock = clock

    def traced(self, request: Request, sink: EventSink) -> EventSink:
        """`sink`, with spans made on the way if the current call is traced."""
        context = self.tracing.traced()
        return sink if context is None else TracedSink(self, context, request, sink)

    def note_io(self, event: AdapterIoEnded) -> None:
        """Adapter I/O of a traced request has ended."""
        request = parse(event.traceparent)
        if request is not None:
            context = request.named_child(f"{event.kind} {event.key}")
            attributes = {"multilora.adapter_key": event.key, "multilora.source": event.source}
            self.tracing.put(
                Span(
                    *(event.kind, context, request.span_id, event.began_s, event.ended_s),
                    *(attributes, event.error),
                )
            )


class TracedSink:
    """Makes spans of one request's events, and passes them on."""

    def __init__(self, spans: RequestSpans, context: TraceContext, request: Request, sink: EventSink) -> None:
        self._spans = spans
        self._context = context
        self._request = request
        self._sink = sink
        self._started_s = request.arrival_s
        self._first_token_s: float | None = None
        self._num_generated = 0

    def put(self, event: Started | Tokens | Finished | Failed) -> Cancel | None:
        """See EventSink."""
        match event:
            case Started():
                self._start(event)
            case Tokens(token_ids=token_ids):
                self._num_generated += len(token_ids)
                if self._first_token_s is None:
                    self._first_token_s = self._spans.clock()
                    prompt = {"multilora.prompt_tokens": len(self._request.prompt_token_ids)}
                    self._span("prefill", self._started_s, self._first_token_s, prompt)
            case Finished(reason=reason):
                self._end("" if reason != "CANCELLED" else "CANCELLED")
            case Failed(error=error):
                self._end(error.reason.value)
        return self._sink.put(event)

    def _start(self, started: Started) -> None:
        queued_s = self._request.arrival_s + started.adapter_wait_s
        self._started_s = queued_s + started.queue_s
        adapter = self._request.adapter
        self._span(
            "queue",
            queued_s,
            self._started_s,
            {
                "multilora.adapter_version": adapter.version_name if adapter else "",
                "multilora.adapter_wait_s": started.adapter_wait_s,
            },
        )

    def _end(self, error: str) -> None:
        now_s = self._spans.clock()
        if self._first_token_s is not None:
            generated = {"multilora.generated_tokens": self._num_generated}
            self._span("decode", self._first_token_s, now_s, generated, error)

    def _span(
        self, name: str, began_s: float, ended_s: float, attributes: Attributes, error: str = ""
    ) -> None:
        context = self._context.child()
        span = Span(name, context, self._context.span_id, began_s, ended_s, attributes, error)
        self._spans.tracing.put(span)
