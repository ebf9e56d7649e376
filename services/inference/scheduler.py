"""Which requests run next, on how many tokens, and whose pages they get.

Order is priority, then arrival. Decodes come first, then prefill chunks, then new admissions, until
the step's tokens are spent. A request waits for its own adapter only; but the first one that lacks
nothing except pages stops the admission of those behind it, so that it gets the next pages freed:
no request starves, resident adapter or not. One that only its tenant's quota keeps waiting stops its own
tenant's alone. Adapters of requests that lack only their turn are loaded
ahead of it. When a running request lacks a page, idle adapters go
first (least recently used, never one that a request ahead waits for), then the running request that
is last in order: it is recomputed later.

A step is scheduled while the one before it runs. A request whose next token that one samples may run on
exactly that token, whose id only the device knows; preempted, it waits until the token is known. Pages
are free as soon as a request is gone, though steps that were launched may still touch them: whoever gets
them writes them in a later step, on the same stream, or by a copy that the loader orders behind what was
launched before it.

Must not know torch, gRPC or the wire. Continuous batching: Yu et al. 2022 (Orca); preemption by
recompute: Kwon et al. 2023 (vLLM).
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from services.common.errors import Code, Reason, ServiceError
from services.inference.adapters.residency import Io, Residency
from services.inference.kv_cache import KvCache
from services.inference.messages import ResidencyState
from services.inference.page_pool import PagePool
from services.inference.request import AdapterKey
from services.inference.sequence import Sequence
from services.inference.sequence_queue import SequenceQueue

# How many waiting requests are looked at for loads ahead of their turn.
LOOK_AHEAD = 32


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens start..start+num_tokens-1 of a sequence, computed in one step.

    `is_last`: they are all that it lacks, so the step samples the next.
    """

    sequence: Sequence
    start: int
    num_tokens: int
    is_last: bool


@dataclass(slots=True)
class Plan:
    """One step: what to compute, the I/O to start, and the requests that cannot go on."""

    chunks: list[Chunk] = field(default_factory=list)
    io: list[Io] = field(default_factory=list)
    failed: list[tuple[Sequence, ServiceError]] = field(default_factory=list)
    budget: int = 0

    @property
    def num_adapters(self) -> int:
        """Different adapters in the batch, the base model not counted."""
        return len({chunk.sequence.adapter_key for chunk in self.chunks} - {None})


def _tenant(sequence: Sequence) -> str:
    """Whose adapter the request is for; empty for the base model."""
    adapter = sequence.request.adapter
    return "" if adapter is None else adapter.tenant


class Scheduler:
    """Waiting and running requests; `schedule` makes the next step's Plan."""

    def __init__(
        self,
        pool: PagePool,
        kv_cache: KvCache,
        residency: Residency,
        *,
        max_batch_tokens: int,
        max_batch_requests: int,
        clock: Callable[[], float],
    ) -> None:
        self._pool = pool
        self._kv = kv_cache
        self._residency = residency
        self._max_batch_tokens = max_batch_tokens
        # One token a step for each running request must fit the step.
        self._max_running = min(max_batch_requests, max_batch_tokens)
        self._clock = clock
        self._waiting = SequenceQueue()
        self._running = SequenceQueue()
        self.num_preemptions = 0

    @property
    def num_waiting(self) -> int:
        """Requests that do not run."""
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        """Requests that hold pages."""
        return len(self._running)

    def add(self, sequence: Sequence) -> list[Io]:
        """Queues a new request; returns the fetch of its adapter, if it needs one."""
        self._waiting.add(sequence)
        if sequence.request.adapter is None:
            return []
        return self._residency.require(sequence.request.adapter, sequence.id)

    def remove(self, sequence: Sequence) -> None:
        """Drops a request wherever it is and gives back all that it holds."""
        key = sequence.adapter_key
        if sequence in self._running:
            self._running.remove(sequence)
            self._kv.release(sequence.id)
            if key is not None:
                self._residency.stop(key, sequence.id)
        else:
            self._waiting.remove(sequence)
            if key is not None:
                self._residency.leave(key, sequence.id)

    def on_adapter_ready(self, key: AdapterKey) -> None:
        """Notes when the requests that wait for `key` stopped waiting for it."""
        now_s = self._clock()
        for sequence in self._waiting:
            if sequence.adapter_key == key and sequence.adapter_ready_s is None:
                sequence.adapter_ready_s = now_s

    def schedule(self) -> Plan:
        """The next step. Takes pages, picks loads and evictions; the caller does the I/O before the step."""
        plan = Plan(budget=self._max_batch_tokens)
        decodes: list[tuple[Sequence, int]] = []
        prefills: list[tuple[Sequence, int]] = []
        for sequence in self._running:
            num_pending = sequence.num_pending
            if not sequence.ends_in_flight:
                (decodes if num_pending == 1 else prefills).append((sequence, num_pending))
        for sequence, num_pending in (*decodes, *prefills):
            self._continue(sequence, num_pending, plan)
        self._admit(plan)
        return plan

    def _continue(self, sequence: Sequence, num_pending: int, plan: Plan) -> None:
        if sequence not in self._running or plan.budget == 0:
            return
        num_tokens = min(num_pending, plan.budget)
        if self._make_room(sequence, sequence.num_computed + num_tokens, plan):
            self._take(sequence, num_pending, plan)

    def _take(self, sequence: Sequence, num_pending: int, plan: Plan) -> None:
        num_tokens = min(num_pending, plan.budget)
        plan.chunks.append(Chunk(sequence, sequence.num_computed, num_tokens, num_tokens == num_pending))
        plan.budget -= num_tokens

    def _make_room(self, sequence: Sequence, num_tokens: int, plan: Plan) -> bool:
        while not self._kv.grow(sequence.id, num_tokens):
            kept = self._wanted_ahead_of(sequence)
            num_pages = self._kv.pages_short(sequence.id, num_tokens)
            plan.io += self._residency.evict_idle(num_pages, kept)
            if self._pool.num_free >= num_pages:
                continue
            victim = self._last_unplanned(plan)
            if victim is not sequence:
                self._preempt(victim)
            else:
                if kept or len(self._running) > 1 or self._residency.is_loading:
                    # Others go first, run or load, so pages will come free: this one is recomputed then.
                    self._preempt(sequence)
                elif not sequence.num_in_flight:
                    self._fail_for_pages(sequence, plan)
                # Else the token in flight may end it, and it needs no page.
                return False
        return True

    def _wanted_ahead_of(self, sequence: Sequence) -> set[AdapterKey]:
        """Adapters in the pool, or on their way, that requests before `sequence` in order wait for."""
        adapters = (waiting.request.adapter for waiting in self._waiting.ahead_of(sequence))
        by_tenant = {(each.key, each.tenant): each for each in adapters if each is not None}
        return {each.key for each in by_tenant.values() if self._residency.is_ready(each)}

    def _last_unplanned(self, plan: Plan) -> Sequence:
        planned = {chunk.sequence.id for chunk in plan.chunks}
        return next(sequence for sequence in reversed(self._running) if sequence.id not in planned)

    def _preempt(self, sequence: Sequence) -> None:
        self._running.remove(sequence)
        self._kv.release(sequence.id)
        sequence.num_computed = 0
        if sequence.adapter_key is not None:
            self._residency.requeue(sequence.adapter_key, sequence.id)
        self._waiting.add(sequence)
        self.num_preemptions += 1

    def _admit(self, plan: Plan) -> None:
        # Tenants whose quota keeps an adapter out: their requests behind it wait too, until one is idle.
        held: set[str] = set()
        for sequence in tuple(self._waiting):
            if plan.budget == 0 or len(self._running) >= self._max_running:
                self._load_ahead(sequence, plan)
                return
            if sequence.num_in_flight:
                # Preempted just now: pages are short, and what is to be recomputed is not all known.
                return
            if _tenant(sequence) in held:
                continue
            if not self._adapter_is_ready(sequence, plan):
                if self._waits_for_tenant(sequence):
                    held.add(_tenant(sequence))
                    continue
                if self._lacks_only_pages(sequence):
                    self._fail_if_hopeless(sequence, plan)
                    return
                continue
            if not self._start(sequence, plan):
                self._fail_if_hopeless(sequence, plan)
                return

    def _load_ahead(self, first: Sequence, plan: Plan) -> None:
        """Loads for `first` and those behind it, which lack only their turn, as far as there is room."""
        # Pages that these will need when their turn comes.
        promised_pages = 0
        for sequence in self._waiting.since(first, LOOK_AHEAD):
            promised_pages += self._kv.num_pages_for(sequence.num_tokens)
            adapter = sequence.request.adapter
            if adapter is None or self._residency.state(adapter) is not ResidencyState.HOST:
                continue
            io = self._residency.try_load(adapter, len(self._running) + promised_pages)
            if io is None and not self._waits_for_tenant(sequence):
                return
            plan.io += io or []

    def _adapter_is_ready(self, sequence: Sequence, plan: Plan) -> bool:
        adapter = sequence.request.adapter
        if adapter is None:
            return True
        if self._residency.state(adapter) is ResidencyState.HOST:
            io = self._residency.try_load(adapter)
            if io is not None:
                plan.io += io
                self.on_adapter_ready(adapter.key)
        # After the try: pins may leave no room for it ever.
        error = self._residency.error(adapter)
        if error is not None:
            plan.failed.append((sequence, error))
            return False
        return self._residency.is_ready(adapter)

    def _lacks_only_pages(self, sequence: Sequence) -> bool:
        adapter = sequence.request.adapter
        return (
            adapter is not None
            and self._residency.error(adapter) is None
            and self._residency.state(adapter) is ResidencyState.HOST
        )

    def _waits_for_tenant(self, sequence: Sequence) -> bool:
        adapter = sequence.request.adapter
        return (
            adapter is not None
            and self._residency.error(adapter) is None
            and self._residency.waits_for_tenant(adapter)
        )

    def _start(self, sequence: Sequence, plan: Plan) -> bool:
        key = sequence.adapter_key
        if key is not None:
            # Running first, so that making room cannot evict the adapter this is for.
            self._residency.start(key, sequence.id)
        if not self._has_headroom(sequence, plan):
            if key is not None:
                self._residency.requeue(key, sequence.id)
            return False
        grown = self._kv.grow(sequence.id, sequence.num_tokens)
        assert grown, "headroom was checked"
        self._waiting.remove(sequence)
        self._running.add(sequence)
        if sequence.started_s is None:
            sequence.started_s = self._clock()
        self._take(sequence, sequence.num_pending, plan)
        return True

    def _has_headroom(self, sequence: Sequence, plan: Plan) -> bool:
        # A page for each running request on top: else the newcomer is preempted a few steps later.
        num_pages = self._kv.num_pages_for(sequence.num_tokens) + len(self._running)
        if self._pool.num_free < num_pages:
            plan.io += self._residency.evict_idle(num_pages)
        return self._pool.num_free >= num_pages

    def _fail_if_hopeless(self, sequence: Sequence, plan: Plan) -> None:
        if not self._running and not self._residency.is_loading:
            self._fail_for_pages(sequence, plan)

    def _fail_for_pages(self, sequence: Sequence, plan: Plan) -> None:
        message = (
            f"the request and its adapter do not fit the pool of {self._pool.num_pages} pages even alone: "
            "send fewer tokens, unpin adapters, or start the server with a larger --pool-bytes"
        )
        error = ServiceError(Code.RESOURCE_EXHAUSTED, Reason.POOL_TOO_SMALL, message)
        plan.failed.append((sequence, error))

    def check_integrity(self) -> None:
        """Raises AssertionError unless queues are ordered and disjoint and only the running hold pages."""
        for queue in (self._waiting, self._running):
            queue.check_integrity()
        assert not {s.id for s in self._waiting} & {s.id for s in self._running}, "both waiting and running"
        for sequence in self._waiting:
            assert not self._kv.pages(sequence.id), f"{sequence.id} waits and holds pages"
            assert sequence.num_computed == 0, f"{sequence.id} waits with computed tokens"
        for sequence in self._running:
            room = len(self._kv.pages(sequence.id)) * self._kv.page_tokens
            assert sequence.num_computed <= room, f"{sequence.id} computed more tokens than it has room for"
        self._kv.check_integrity()
        self._pool.check_integrity()
        self._residency.check_integrity()

    def __repr__(self) -> str:
        return f"Scheduler(waiting={self.num_waiting}, running={self.num_running})"
