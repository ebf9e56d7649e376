"""What callers get, as they feel it: waits, time to first token, time between tokens, tokens by tenant.

Owned by the front end's event loop. Must not know who exports it, nor what is in a prompt or an answer.
"""

import time
from collections.abc import Callable

from services.common.bounded_names import BoundedNames
from services.common.histogram import Histogram
from services.inference.engine_port import EventSink
from services.inference.messages import Cancel, Failed, Finished, Started, Tokens
from services.inference.request import Request

# No tenant can have it: a request for the base model, by a caller of no one tenant.
NO_TENANT = "_none"

RequestEvent = Started | Tokens | Finished | Failed


class RequestMeter:
    """All requests since the start, copies for shadows not among them.

    `tokens` is by (tenant, kind), kind being prompt or generated; at most `max_tenants` are told apart.
    """

    def __init__(self, max_tenants: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.queue_s = Histogram()
        self.adapter_wait_s = Histogram()
        self.first_token_s = Histogram()
        self.between_tokens_s = Histogram()
        self.total_s = Histogram()
        self.tokens: dict[tuple[str, ...], float] = {}
        self._tenants = BoundedNames(max_tenants)

    def metered(self, request: Request, tenant: str | None, sink: EventSink) -> "MeteredSink":
        """`sink`, with what it gets measured on the way."""
        name = NO_TENANT if tenant is None else self._tenants.label(tenant)
        for kind in ("prompt", "generated"):
            self.tokens.setdefault((name, kind), 0)
        return MeteredSink(self, request, name, sink)


class MeteredSink:
    """Measures the events of one request and passes them on."""

    def __init__(self, meter: RequestMeter, request: Request, tenant: str, sink: EventSink) -> None:
        self._meter = meter
        self._arrival_s = request.arrival_s
        self._num_prompt_tokens = len(request.prompt_token_ids)
        self._prompt, self._generated = (tenant, "prompt"), (tenant, "generated")
        self._sink = sink
        self._last_token_s: float | None = None

    def put(self, event: RequestEvent) -> Cancel | None:
        """See EventSink."""
        meter = self._meter
        match event:
            case Tokens(token_ids=token_ids):
                self._note_tokens(len(token_ids))
            case Started(queue_s=queue_s, adapter_wait_s=adapter_wait_s):
                meter.queue_s.observe(queue_s)
                meter.adapter_wait_s.observe(adapter_wait_s)
                meter.tokens[self._prompt] += self._num_prompt_tokens
            case Finished():
                meter.total_s.observe(meter.clock() - self._arrival_s)
        return self._sink.put(event)

    def _note_tokens(self, num_tokens: int) -> None:
        meter, now_s, last_s = self._meter, self._meter.clock(), self._last_token_s
        meter.tokens[self._generated] += num_tokens
        if last_s is None:
            meter.first_token_s.observe(now_s - self._arrival_s)
        else:
            meter.between_tokens_s.observe((now_s - last_s) / num_tokens, num_tokens)
        self._last_token_s = now_s
