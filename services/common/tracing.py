"""Makes spans of what happens, if anybody wants them. Must not know OpenTelemetry: a SpanSink takes them.

No attribute may hold a prompt, a token of text, or a secret.
"""

import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from services.common.errors import ServiceError
from services.common.trace_context import (
    TraceContext,
    current,
    entered,
    from_metadata,
    new_trace,
    set_current,
)

Attributes = Mapping[str, str | int | float]

_SCALE = 1 << 32
# Health checks and reflection begin no traces of their own.
_INFRASTRUCTURE = "/grpc."


@dataclass(frozen=True, slots=True)
class Span:
    """Something that took time, in time.monotonic() seconds. `error` is empty if it went well."""

    name: str
    context: TraceContext
    parent_span_id: str
    began_s: float
    ended_s: float
    attributes: Attributes = field(default_factory=dict)
    error: str = ""
    is_server: bool = False


class SpanSink(Protocol):
    """Where spans go; must not wait."""

    def put(self, span: Span) -> None:
        """Takes a span of a sampled trace."""
        ...

    def close(self) -> None:
        """Sends what is left; waits for that."""
        ...


class Tracing:
    """Spans of one process. Without a sink nothing is made, and callers' contexts are passed on as they are.

    `ratio` is the share of calls without a trace of the caller's that begin one.
    """

    def __init__(self, sink: SpanSink | None = None, ratio: float = 1.0) -> None:
        self._sink = sink
        self._ratio = ratio

    def traced(self) -> TraceContext | None:
        """The current context, if spans of it are wanted."""
        context = current()
        return context if self._sink is not None and context is not None and context.is_sampled else None

    def put(self, span: Span) -> None:
        """Hands on a span that has ended."""
        if self._sink is not None and span.context.is_sampled:
            self._sink.put(span)

    def begin(self, method: str, metadata: Iterable[tuple[str, str | bytes]]) -> "ServerCall":
        """A call of `/package.Service/Method` begins, in a task of its own, with what its caller sent."""
        caller = from_metadata(metadata)
        context = caller
        if self._sink is not None:
            context = self._root(method) if caller is None else caller.child()
        set_current(context)
        return ServerCall(self, method, context, "" if caller is None else caller.span_id)

    def _root(self, method: str) -> TraceContext:
        is_sampled = secrets.randbelow(_SCALE) < self._ratio * _SCALE
        return new_trace(is_sampled and not method.startswith(_INFRASTRUCTURE))

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """What runs within is a span of the current trace, and calls made within are its children."""
        parent = self.traced()
        if parent is None:
            yield
            return
        context, began_s, error = parent.child(), time.monotonic(), ""
        try:
            with entered(context):
                yield
        except BaseException as raised:
            error = raised.reason.value if isinstance(raised, ServiceError) else type(raised).__name__
            raise
        finally:
            self.put(Span(name, context, parent.span_id, began_s, time.monotonic(), error=error))

    def close(self) -> None:
        """Sends what is left; waits for that."""
        if self._sink is not None:
            self._sink.close()


class ServerCall:
    """A call that this process answers. `end` it once."""

    def __init__(
        self, tracing: Tracing, method: str, context: TraceContext | None, parent_span_id: str
    ) -> None:
        self._tracing = tracing
        self._method = method
        self._context = context
        self._parent_span_id = parent_span_id
        self._began_s = time.monotonic()

    def end(self, code: str) -> float:
        """It ended with `code`; the seconds it took."""
        ended_s = time.monotonic()
        if self._context is not None:
            attributes = {"rpc.system": "grpc", "rpc.grpc.status": code}
            name = self._method.removeprefix("/")
            error = "" if code == "OK" else code
            self._tracing.put(
                Span(
                    *(name, self._context, self._parent_span_id, self._began_s, ended_s),
                    *(attributes, error, True),
                )
            )
        return ended_s - self._began_s
