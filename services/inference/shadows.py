"""Runs sampled copies of requests on shadow versions: their tokens are compared, counted and discarded.

A copy never costs a request its place: it starts when its request has ended well, waits and runs behind all
others, at most `max_copies` at once, and is dropped as soon as requests and copies together are more than
the engine runs at once. Must not know the wire.
"""

import asyncio
import itertools
import logging
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from services.common.errors import ServiceError
from services.inference.admission import AdapterResolver, Admitted
from services.inference.engine_port import EnginePort
from services.inference.messages import Started
from services.inference.request import FinishReason, Request
from services.inference.shadow_stats import ShadowStats
from services.inference.stream import End, RequestStream
from services.inference.token_stream import Delta
from services.inference.tokenizer import Tokenizer

log = logging.getLogger(__name__)

# Below every priority that a caller can give, which has 32 bits.
PRIORITY = -(1 << 31) - 1
# Nobody waits for a copy; one that takes longer has failed.
DEADLINE_S = 300.0


@dataclass(slots=True)
class Original:
    """What a request that is to be copied has said so far."""

    request: Request
    shadow: str
    token_ids: list[int] = field(default_factory=list)
    end: End | None = None

    def note(self, event: Started | Delta | End) -> None:
        """Takes the request's next event."""
        if isinstance(event, Delta):
            self.token_ids += event.token_ids
        elif isinstance(event, End):
            self.end = event

    @property
    def ended_well(self) -> bool:
        """Whether there is a whole answer to compare with."""
        return self.end is not None and self.end.reason is not FinishReason.CANCELLED


class Shadows:
    """The copies that run. `max_requests` is how many requests the engine runs at once."""

    def __init__(
        self,
        engine: EnginePort,
        resolver: AdapterResolver,
        tokenizer: Tokenizer,
        *,
        max_copies: int,
        max_requests: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._resolver = resolver
        self._tokenizer = tokenizer
        self._max_copies = max_copies
        self._max_requests = max_requests
        self._clock = clock
        self._ids = itertools.count(1)
        self._copies: dict[str, asyncio.Task[None]] = {}
        self.stats = ShadowStats()

    def original(self, admitted: Admitted) -> Original | None:
        """What to note of a request that was sampled; None if it was not."""
        return Original(admitted.request, admitted.shadow) if admitted.shadow else None

    def make_room(self, num_requests: int) -> None:
        """Call before a request is submitted: drops the copies whose places `num_requests` need."""
        while self._copies and num_requests + len(self._copies) > self._max_requests:
            self._drop(next(reversed(self._copies)))

    def start(self, original: Original, num_requests: int) -> None:
        """Runs the copy of a request that has ended, if there is room beside `num_requests`."""
        if not original.ended_well:
            return
        num_copies = len(self._copies) + 1
        if num_copies > self._max_copies or num_requests + num_copies > self._max_requests:
            self.stats.dropped += 1
            return
        copy_id = f"s{next(self._ids)}"
        self._copies[copy_id] = asyncio.create_task(self._run(copy_id, original))

    def stop(self) -> None:
        """Drops every copy."""
        while self._copies:
            self._drop(next(iter(self._copies)))

    def _drop(self, copy_id: str) -> None:
        # At once, so that the engine hears of it before it hears of the request that needs the room.
        self._engine.cancel(copy_id)
        self._copies.pop(copy_id).cancel()
        self.stats.dropped += 1

    async def _run(self, copy_id: str, original: Original) -> None:
        try:
            adapter = (await self._resolver.resolve(original.shadow)).adapter
            now_s = self._clock()
            request = replace(
                original.request,
                request_id=copy_id,
                adapter=adapter,
                arrival_s=now_s,
                priority=PRIORITY,
                deadline_s=now_s + DEADLINE_S,
            )
            copy = await self._generate(request, original.shadow)
        except ServiceError as error:
            log.info("a copy on shadow %s failed: %s", original.shadow, error.message)
            self._count_failure(copy_id)
        except Exception:
            log.exception("a copy on shadow %s failed", original.shadow)
            self._count_failure(copy_id)
        else:
            self._count(copy_id, original, copy)
        finally:
            self._engine.cancel(copy_id)

    async def _generate(self, request: Request, shadow: str) -> Original:
        copy = Original(request, shadow)
        stream = RequestStream(request, self._tokenizer.detokenizer(request.prompt_token_ids), self._clock)
        self._engine.submit(request, stream)
        self.stats.started += 1
        async with aclosing(stream.read()) as events:
            async for event in events:
                copy.note(event)
        return copy

    def _count(self, copy_id: str, original: Original, copy: Original) -> None:
        if not copy.ended_well or self._copies.pop(copy_id, None) is None:
            self._count_failure(copy_id)
            return
        assert original.end is not None, "it was copied because it had ended"
        assert copy.end is not None, "it ended well"
        stats = self.stats
        stats.finished += 1
        stats.compared_tokens += min(len(original.token_ids), len(copy.token_ids))
        stats.diverged += original.token_ids != copy.token_ids
        stats.primary_s += original.end.timing.total_s
        stats.shadow_s += copy.end.timing.total_s

    def _count_failure(self, copy_id: str) -> None:
        # One that was dropped meanwhile is counted already.
        if self._copies.pop(copy_id, None) is not None:
            self.stats.failed += 1

    def check_integrity(self) -> None:
        """Raises AssertionError unless every copy that was started is where it is counted."""
        stats, num_running = self.stats, len(self._copies)
        assert num_running <= self._max_copies, f"{num_running} copies"
        assert stats.diverged <= stats.finished <= stats.started, f"{stats}"
        ended = stats.finished + stats.failed + stats.dropped
        assert stats.started <= ended + num_running, f"{stats}, {num_running} running"

    def __repr__(self) -> str:
        stats = self.stats
        return (
            f"Shadows(running={len(self._copies)}, finished={stats.finished}, failed={stats.failed}, "
            f"dropped={stats.dropped})"
        )
