"""Which trace what runs now belongs to: W3C's traceparent, from the caller through us into whom we call.

It travels whether spans are exported or not, so that logs and other services can be told by it. Must not know
OpenTelemetry, gRPC or any service.
"""

import hashlib
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

HEADER = "traceparent"

_FORM = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_SAMPLED = 1


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A span of a trace, in hex; `is_sampled` says whether the trace is recorded."""

    trace_id: str
    span_id: str
    is_sampled: bool

    @property
    def header(self) -> str:
        """As a traceparent."""
        return f"00-{self.trace_id}-{self.span_id}-{int(self.is_sampled):02x}"

    def child(self) -> "TraceContext":
        """A new span of the same trace."""
        return replace(self, span_id=secrets.token_hex(8))

    def named_child(self, name: str) -> "TraceContext":
        """A span of the same trace whose id follows from this one's and `name`, wherever it is asked for."""
        digest = hashlib.sha256(f"{self.span_id} {name}".encode()).hexdigest()
        return replace(self, span_id=digest[:16])


def new_trace(is_sampled: bool) -> TraceContext:
    """A trace of its own."""
    return TraceContext(secrets.token_hex(16), secrets.token_hex(8), is_sampled)


def parse(header: str) -> TraceContext | None:
    """What a traceparent says; None if it is none, as the standard wants it."""
    found = _FORM.fullmatch(header)
    if found is None or not int(found[1], 16) or not int(found[2], 16):
        return None
    return TraceContext(found[1], found[2], bool(int(found[3], 16) & _SAMPLED))


def from_metadata(metadata: Iterable[tuple[str, str | bytes]]) -> TraceContext | None:
    """The trace that a call's metadata names, if any."""
    for key, value in metadata:
        if key == HEADER:
            return parse(str(value))
    return None


# The task's or thread's own: contexts are what asyncio keeps apart for us.
_current: ContextVar[TraceContext | None] = ContextVar("trace_context", default=None)


def current() -> TraceContext | None:
    """The span that the running task or thread works for."""
    return _current.get()


def set_current(context: TraceContext | None) -> None:
    """For the rest of the running task, which is one call's."""
    _current.set(context)


@contextmanager
def entered(context: TraceContext | None) -> Iterator[None]:
    """Within, `context` is the current one."""
    token = _current.set(context)
    try:
        yield
    finally:
        _current.reset(token)


def trace_metadata() -> tuple[tuple[str, str], ...]:
    """What a call carries to go on with the current trace."""
    context = _current.get()
    return () if context is None else ((HEADER, context.header),)
