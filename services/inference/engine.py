"""The engine's loop body: commands in, one scheduled step, events out.

Owns the life of every request between Submit and Finished or Failed. Must not know gRPC or
processes: the runner computes, the adapter I/O moves weights, the engine process drives `step`.

On a device that computes beside the host, a step is launched before the tokens of the one before are read:
scheduling, packing and events of one hide behind the other. A request that ends by a token it is given, or
is cancelled, may so have a row too many in the step that runs already; that row's token is dropped.
"""

import heapq
import time
from collections.abc import Callable
from collections.abc import Sequence as SequenceOf
from dataclasses import asdict
from typing import Protocol

from services.common.errors import Code, Reason, ServiceError
from services.inference.adapters.io import AdapterIo, Completion
from services.inference.adapters.io_meter import IoMeter
from services.inference.adapters.io_trace import IoTrace
from services.inference.adapters.residency import Io, Load, Residency
from services.inference.engine_counters import BatchMeter, EngineCounters
from services.inference.messages import (
    Cancel,
    Command,
    EngineMetrics,
    EngineStats,
    Event,
    Events,
    Failed,
    Finished,
    GetMetrics,
    GetStats,
    ListResident,
    LoadAdapter,
    Reply,
    SetTenantQuota,
    Started,
    Submit,
    Tokens,
    UnloadAdapter,
)
from services.inference.page_pool import PagePool, PageUse
from services.inference.request import AdapterKey, FinishReason, Request
from services.inference.sampler_row import SampledToken
from services.inference.scheduler import Chunk, Plan, Scheduler
from services.inference.sequence import Sequence

RETRY_AFTER_S = 1.0


class Launched(Protocol):
    """A step that the device has, or will have, computed."""

    def tokens(self) -> list[tuple[Sequence, SampledToken]]:
        """Waits for this step; a token for each sequence whose last token was among its chunks."""
        ...


class Runner(Protocol):
    """Computes steps in order of launch. The real one is services.inference.runner."""

    @property
    def overlaps(self) -> bool:
        """Whether the device computes beside the host: if not, a step has ended when `launch` returns."""
        ...

    def launch(self, chunks: SequenceOf[Chunk]) -> Launched:
        """Runs the model on `chunks`, which may have tokens that the launch before this one samples."""
        ...


class Engine:
    """All requests of one process. Not thread-safe: one thread calls everything."""

    def __init__(
        self,
        scheduler: Scheduler,
        residency: Residency,
        pool: PagePool,
        adapter_io: AdapterIo,
        runner: Runner,
        *,
        page_bytes: int,
        max_queue: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._scheduler = scheduler
        self._residency = residency
        self._pool = pool
        self._adapter_io = adapter_io
        self._runner = runner
        self._page_bytes = page_bytes
        self._max_queue = max_queue
        self._clock = clock
        self._sequences: dict[str, Sequence] = {}
        self._deadlines: list[tuple[float, str]] = []
        self._events: list[Event] = []
        self._launched: Launched | None = None
        self._counters = EngineCounters()
        self._batches = BatchMeter()
        self._io_meter = IoMeter(clock)
        self._io_trace = IoTrace(clock)
        self._num_arrived = 0

    @property
    def next_deadline_s(self) -> float | None:
        """When the next request runs out of time, in time.monotonic() seconds."""
        while self._deadlines and self._deadlines[0][1] not in self._sequences:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def handle(self, command: Command) -> None:
        """Takes one command; its events come with the next `step`."""
        match command:
            case Submit(request):
                self._submit(request)
            case Cancel(request_id, reason):
                if request_id in self._sequences:
                    self._finish(self._sequences[request_id], reason)
            case LoadAdapter(call_id, adapter, tier, pin):
                self._start_io(self._residency.load(adapter, tier, pin, call_id))
            case UnloadAdapter(call_id, key, tenant, tier):
                self._start_io(self._residency.unload(key, tenant, tier, call_id))
            case SetTenantQuota(tenant, max_resident_bytes):
                self._residency.tenants.set_quota(tenant, max_resident_bytes)
            case GetStats(call_id):
                self._events.append(Reply(call_id, self.stats()))
            case GetMetrics(call_id):
                self._events.append(Reply(call_id, self.metrics()))
            case ListResident(call_id):
                self._events.append(Reply(call_id, self._residency.info()))

    def complete(self, completion: Completion) -> None:
        """Takes the outcome of adapter I/O that an earlier step started."""
        self._io_meter.ended(completion)
        if told := self._io_trace.ended(completion):
            self._events.append(told)
        self._start_io(self._adapter_io.complete(completion))

    def step(self) -> tuple[Events, bool]:
        """Launches one step and takes the tokens of the one before, or its own where nothing overlaps.

        Returns events, and whether anything was done or is under way: if not, wait for news.
        """
        self._expire()
        plan = self._scheduler.schedule()
        for sequence, error in plan.failed:
            self._fail(sequence, error)
        self._start_chunks_io(plan)
        self._start_io(self._residency.try_operator_loads())
        before, self._launched = self._launched, None
        if plan.chunks:
            self._launched = self._launch(plan.chunks)
            self._count_step(plan)
        if before is not None:
            self._collect(before)
        if self._launched is not None and not self._runner.overlaps:
            before, self._launched = self._launched, None
            self._collect(before)
        for call_id, value in self._residency.take_completed():
            self._events.append(Reply(call_id, value))
        events, self._events = tuple(self._events), []
        return events, bool(plan.chunks or plan.io or events or before is not None)

    def _count_step(self, plan: Plan) -> None:
        num_requests, num_adapters = len(plan.chunks), plan.num_adapters
        self._counters.count_step(num_requests, num_adapters)
        self._batches.count_step(num_requests, num_adapters)

    def _start_io(self, io: list[Io]) -> dict[AdapterKey, ServiceError]:
        """Starts `io`; the loads that went wrong."""
        for order in io:
            self._io_meter.ordered(order)
            self._io_trace.ordered(order)
            if isinstance(order, Load):
                self._scheduler.on_adapter_ready(order.key)
        return self._adapter_io.execute(io)

    def _start_chunks_io(self, plan: Plan) -> None:
        """Starts the plan's I/O; what it was to compute with an adapter whose load went wrong fails."""
        failed = self._start_io(plan.io)
        if not failed:
            return
        for chunk in plan.chunks:
            error = failed.get(chunk.sequence.adapter_key or AdapterKey(""))
            if error is not None:
                self._fail(chunk.sequence, error)
        plan.chunks = [chunk for chunk in plan.chunks if chunk.sequence.id in self._sequences]

    def _submit(self, request: Request) -> None:
        if self._scheduler.num_waiting >= self._max_queue:
            message = f"{self._max_queue} requests are waiting already: try again in a moment"
            error = ServiceError(
                Code.RESOURCE_EXHAUSTED, Reason.QUEUE_FULL, message, retry_after_s=RETRY_AFTER_S
            )
            self._counters.failed_requests += 1
            self._events.append(Failed(request.request_id, error))
            return
        sequence = Sequence(request, order=(-request.priority, self._num_arrived))
        self._num_arrived += 1
        self._sequences[request.request_id] = sequence
        self._io_trace.add(request)
        if request.deadline_s is not None:
            heapq.heappush(self._deadlines, (request.deadline_s, request.request_id))
        self._start_io(self._scheduler.add(sequence))

    def _expire(self) -> None:
        now_s = self._clock()
        while (deadline_s := self.next_deadline_s) is not None and deadline_s <= now_s:
            _, request_id = heapq.heappop(self._deadlines)
            error = ServiceError(
                Code.DEADLINE_EXCEEDED, Reason.DEADLINE, "the call's deadline passed before it finished"
            )
            self._fail(self._sequences[request_id], error)

    def _launch(self, chunks: list[Chunk]) -> Launched:
        for chunk in chunks:
            if not chunk.sequence.announced:
                self._announce(chunk.sequence)
        launched = self._runner.launch(chunks)
        for chunk in chunks:
            chunk.sequence.num_in_flight += chunk.is_last
            chunk.sequence.num_computed += chunk.num_tokens
        return launched

    def _collect(self, launched: Launched) -> None:
        for sequence, token in launched.tokens():
            sequence.num_in_flight -= 1
            # It may have ended after the launch, and another may have its id since.
            if self._sequences.get(sequence.id) is sequence:
                self._deliver(sequence, token)

    def _announce(self, sequence: Sequence) -> None:
        sequence.announced = True
        request = sequence.request
        self._counters.prompt_tokens += len(request.prompt_token_ids)
        started_s = sequence.started_s if sequence.started_s is not None else self._clock()
        ready_s = sequence.adapter_ready_s if sequence.adapter_ready_s is not None else request.arrival_s
        adapter_wait_s = max(0.0, ready_s - request.arrival_s)
        queue_s = max(0.0, started_s - request.arrival_s - adapter_wait_s)
        self._events.append(Started(sequence.id, 0, queue_s, adapter_wait_s))

    def _deliver(self, sequence: Sequence, token: SampledToken) -> None:
        if token.error is not None:
            self._fail(sequence, token.error)
            return
        reason = sequence.accept(token.token_id)
        if reason is not FinishReason.STOP:
            self._counters.generated_tokens += 1
            logprobs = () if token.logprobs is None else (token.logprobs,)
            self._events.append(Tokens(sequence.id, (token.token_id,), logprobs))
        if reason is not None:
            stop_token_id = token.token_id if reason is FinishReason.STOP else None
            self._finish(sequence, reason, stop_token_id)

    def _finish(self, sequence: Sequence, reason: FinishReason, stop_token_id: int | None = None) -> None:
        self._drop(sequence)
        if reason is FinishReason.CANCELLED:
            self._counters.cancelled_requests += 1
        else:
            self._counters.finished_requests += 1
        self._events.append(Finished(sequence.id, reason, stop_token_id))

    def _fail(self, sequence: Sequence, error: ServiceError) -> None:
        self._drop(sequence)
        self._counters.failed_requests += 1
        self._events.append(Failed(sequence.id, error))

    def _drop(self, sequence: Sequence) -> None:
        del self._sequences[sequence.id]
        self._io_trace.remove(sequence.id)
        self._scheduler.remove(sequence)

    def stats(self) -> EngineStats:
        """Counters since the start and gauges of now."""
        pool = self._pool
        return EngineStats(
            page_bytes=self._page_bytes,
            total_pages=pool.num_pages,
            free_pages=pool.num_free,
            kv_pages=pool.num_held(PageUse.KV),
            adapter_pages=pool.num_held(PageUse.ADAPTER),
            peak_kv_pages=pool.peak(PageUse.KV),
            peak_adapter_pages=pool.peak(PageUse.ADAPTER),
            queued_requests=self._scheduler.num_waiting,
            running_requests=self._scheduler.num_running,
            preemptions=self._scheduler.num_preemptions,
            **asdict(self._residency.counters),
            **asdict(self._counters),
        )

    def metrics(self) -> EngineMetrics:
        """The stats, and distributions since the start; they go on changing until they are sent."""
        return EngineMetrics(
            stats=self.stats(),
            adapters_by_residency=self._residency.count_by_state(),
            batch_requests=self._batches.requests,
            batch_adapters=self._batches.adapters,
            load_seconds=self._io_meter.load_seconds,
            fetched_bytes=self._io_meter.fetched_bytes,
        )

    def check_integrity(self) -> None:
        """Raises AssertionError unless every live request is queued once and everything it holds adds up."""
        num_queued = self._scheduler.num_waiting + self._scheduler.num_running
        assert len(self._sequences) == num_queued, f"{len(self._sequences)} live, {num_queued} queued"
        in_flight = [sequence for sequence in self._sequences.values() if sequence.num_in_flight]
        assert all(sequence.num_in_flight == 1 for sequence in in_flight), "more than a token in flight"
        assert not in_flight or self._launched is not None, "a token in flight, and no step that samples it"
        self._scheduler.check_integrity()

    def check_idle(self) -> None:
        """Raises AssertionError if anything is left of past requests: requests, KV pages, users."""
        self.check_integrity()
        assert not self._sequences, f"requests left: {sorted(self._sequences)}"
        assert self._pool.num_held(PageUse.KV) == 0, f"KV pages left: {self._pool!r}"
        for info in self._residency.info():
            users = info.running_requests + info.waiting_requests
            assert users == 0, f"{info.version_name} still has {users} users"

    def __repr__(self) -> str:
        return f"Engine({self._scheduler!r}, {self._pool!r}, {self._residency!r})"
