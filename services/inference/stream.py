"""One request between the engine's events and its reader: order, timing, one end.

`put` is all there is of state change and never waits; readers iterate. Must not know the wire.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from services.common.errors import ServiceError
from services.inference.detokenizer import Detokenizer
from services.inference.messages import Cancel, Failed, Finished, Started, Tokens
from services.inference.request import FinishReason, Request
from services.inference.token_stream import Delta, TokenStream

RequestEvent = Started | Tokens | Finished | Failed


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds from the request's arrival; `queue_s` does not count the wait for the adapter."""

    queue_s: float
    adapter_wait_s: float
    ttft_s: float
    total_s: float


@dataclass(frozen=True, slots=True)
class End:
    """How a stream ended well. `matched_stop`: the stop string, or the token id in decimal."""

    reason: FinishReason
    matched_stop: str
    completion_tokens: int
    timing: Timing


class RequestStream:
    """Takes the events of one request, gives Started, Deltas and one End, in this order.

    A slow reader finds everything since its last visit merged. A stop string is found when its
    tokens arrive, not when they are read, so that the engine never runs on for a slow reader.
    """

    def __init__(
        self, request: Request, detokenizer: Detokenizer, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.request = request
        self._clock = clock
        self._tokens = TokenStream(request.sampling, detokenizer)
        self._started: Started | None = None
        self._first_token_s: float | None = None
        self._end: End | ServiceError | None = None
        self._news = asyncio.Event()

    @property
    def has_ended(self) -> bool:
        """Whether the engine's part is over; deltas may still be pending."""
        return self._end is not None

    def put(self, event: RequestEvent) -> Cancel | None:
        """Takes the next event; a Cancel in return is to be sent to the engine."""
        if self.has_ended:
            return None
        self._news.set()
        match event:
            case Started():
                self._started = event
            case Tokens():
                return self._put_tokens(event)
            case Finished(reason=reason, stop_token_id=stop_token_id):
                self._finish(reason, "" if stop_token_id is None else str(stop_token_id))
            case Failed(error=error):
                self._end = error
        return None

    def _put_tokens(self, tokens: Tokens) -> Cancel | None:
        if self._first_token_s is None:
            self._first_token_s = self._clock()
        self._tokens.push(tokens.token_ids, tokens.logprobs)
        if self._tokens.matched_stop is None:
            return None
        self._finish(FinishReason.STOP, self._tokens.matched_stop)
        return Cancel(self.request.request_id, FinishReason.STOP)

    def _finish(self, reason: FinishReason, matched_stop: str) -> None:
        self._tokens.end()
        now_s, arrival_s = self._clock(), self.request.arrival_s
        started = self._or_never_started()
        first_s = now_s if self._first_token_s is None else self._first_token_s
        timing = Timing(started.queue_s, started.adapter_wait_s, first_s - arrival_s, now_s - arrival_s)
        self._end = End(reason, matched_stop, self._tokens.num_tokens, timing)

    def _or_never_started(self) -> Started:
        if self._started is not None:
            return self._started
        # Cancelled in the queue: the reader is still owed a first event.
        return Started(self.request.request_id, 0, self._clock() - self.request.arrival_s, 0.0)

    async def read(self) -> AsyncGenerator[Started | Delta | End, None]:
        """Started, then deltas, then End. Raises the ServiceError of a request that failed."""
        while self._started is None and self._end is None:
            await self._wait()
        if not isinstance(self._end, ServiceError):
            yield self._or_never_started()
        while True:
            if isinstance(self._end, ServiceError):
                raise self._end
            if self._tokens.has_delta:
                yield self._tokens.take()
            elif self._end is not None:
                yield self._end
                return
            else:
                await self._wait()

    async def _wait(self) -> None:
        self._news.clear()
        await self._news.wait()
