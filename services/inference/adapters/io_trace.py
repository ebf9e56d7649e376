"""Tells the front end of adapter I/O that a traced request waits for. Costs nothing where none is traced.

Must not know spans: the front end makes them.
"""

import time
from collections.abc import Callable

from services.inference.adapters.completions import Completion, Fetched, FetchFailed
from services.inference.adapters.io_orders import Fetch, Io, Load
from services.inference.messages import AdapterIoEnded
from services.inference.request import AdapterKey, Request


class IoTrace:
    """Traced requests that live, and the I/O that is under way for them. Owned by the engine's loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # By request: the adapter and the traceparent it was resolved under.
        self._requests: dict[str, tuple[AdapterKey, str]] = {}
        self._under_way: dict[AdapterKey, tuple[str, float]] = {}

    def add(self, request: Request) -> None:
        """A request is here."""
        if request.adapter is not None and request.adapter.traceparent:
            self._requests[request.request_id] = (request.adapter.key, request.adapter.traceparent)

    def remove(self, request_id: str) -> None:
        """It is gone."""
        self._requests.pop(request_id, None)

    def ordered(self, order: Io) -> None:
        """I/O begins now."""
        if isinstance(order, Fetch) and order.adapter.traceparent:
            self._under_way[order.adapter.key] = (order.adapter.traceparent, self._clock())
        elif isinstance(order, Load) and self._requests:
            found = (header for key, header in self._requests.values() if key == order.key)
            if header := next(found, ""):
                self._under_way[order.key] = (header, self._clock())

    def ended(self, completion: Completion) -> AdapterIoEnded | None:
        """I/O has ended; what to tell of it, if it is traced."""
        if completion.key not in self._under_way:
            return None
        header, began_s = self._under_way.pop(completion.key)
        kind, source, error = "load", "host", ""
        match completion:
            case Fetched(source=found):
                kind, source = "fetch", str(found)
            case FetchFailed(error=failure):
                kind, source, error = "fetch", "", failure.reason.value
        return AdapterIoEnded(header, completion.key, kind, source, began_s, self._clock(), error)

    def __repr__(self) -> str:
        return f"IoTrace(requests={len(self._requests)}, under way={len(self._under_way)})"
