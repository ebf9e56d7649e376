"""An engine with real scheduling and residency, and fakes where weights move and models run.

The fake runner's tokens depend on the request alone (prompt, position, adapter), so a test can say
what every stream must be, whoever else is in the batch.
"""

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field

from services.common.errors import Code, Reason, ServiceError
from services.inference.adapters.io import Completion, Fetched, FetchFailed, LoadEnded
from services.inference.adapters.residency import Fetch, FetchSource, Io, Load, Residency
from services.inference.engine import Engine
from services.inference.kv_cache import KvCache
from services.inference.messages import Event, Failed, Finished, Submit, Tokens
from services.inference.page_pool import PagePool
from services.inference.request import AdapterFile, AdapterKey, Request, ResolvedAdapter, SamplingParams
from services.inference.sampler_row import SampledToken
from services.inference.scheduler import Chunk, Scheduler
from services.inference.sequence import Sequence

PAGE_TOKENS = 4
EOS = 1


def adapter(name: str, tenant: str = "t") -> ResolvedAdapter:
    """The same bytes as those of that name in another tenant."""
    version_name = f"tenants/{tenant}/adapters/{name}/versions/1"
    return ResolvedAdapter(AdapterKey(f"key-{name}"), version_name, 8, (AdapterFile("a", 1, "0"),))


def token_at(request: Request, index: int) -> int:
    """The `index`-th token that the fake model gives `request`; never EOS."""
    salt = request.adapter.key if request.adapter else ""
    return 2 + (sum(request.prompt_token_ids) + 31 * index + sum(map(ord, salt))) % 997


@dataclass(frozen=True)
class FakeLaunched:
    """A step that ends when the test asks for its tokens."""

    sampled: list[tuple[Sequence, SampledToken]]

    def tokens(self) -> list[tuple[Sequence, SampledToken]]:
        return self.sampled


class FakeRunner:
    """Checks that every sequence has pages and a resident adapter, and gives its next token.

    `tokens` says otherwise for some, by request and number.
    """

    def __init__(self, kv: KvCache, residency: Residency, overlaps: bool) -> None:
        self._kv, self._residency = kv, residency
        self.overlaps = overlaps
        self.batches: list[tuple[str, ...]] = []
        self.fails: set[str] = set()
        self.tokens: dict[tuple[str, int], int] = {}
        self._last_sampled: set[Sequence] = set()

    def launch(self, chunks: SequenceOf[Chunk]) -> FakeLaunched:
        self.batches.append(tuple(chunk.sequence.id for chunk in chunks))
        sampled = []
        for chunk in chunks:
            sequence = chunk.sequence
            assert chunk.start == sequence.num_computed
            assert len(self._kv.pages(sequence.id)) * PAGE_TOKENS >= chunk.start + chunk.num_tokens
            if sequence.adapter_key is not None:
                # `state` speaks to those who want to start: it hides an adapter that an unload drains.
                assert self._residency.adapter_index(sequence.adapter_key) >= 0
            if chunk.is_last:
                num_generated = sequence.num_tokens - len(sequence.request.prompt_token_ids)
                token_id = self.tokens.get((sequence.id, num_generated))
                if token_id is None:
                    token_id = token_at(sequence.request, num_generated)
                error = None
                if sequence.id in self.fails:
                    error = ServiceError(Code.INTERNAL, Reason.INTERNAL_ERROR, "NaN logits")
                sampled.append((sequence, SampledToken(token_id, None, error)))
            # A token in flight is one that the launch before this one samples.
            assert not sequence.num_in_flight or sequence in self._last_sampled
            assert not sequence.num_in_flight or chunk.num_tokens == 1
        self._last_sampled = {sequence for sequence, _ in sampled}
        return FakeLaunched(sampled)


class FakeAdapterIo:
    """Holds every order until the test lets it end; sizes and failures by key.

    Steps may use what is being loaded, but for loads in `load_failures`, which go wrong at once.
    """

    def __init__(self, residency: Residency) -> None:
        self._residency = residency
        self.pending: list[Fetch | Load] = []
        self.num_pages: dict[str, int] = {}
        self.failures: dict[str, ServiceError] = {}
        self.load_failures: dict[str, ServiceError] = {}

    def execute(self, io: list[Io]) -> dict[AdapterKey, ServiceError]:
        self.pending += [order for order in io if isinstance(order, Fetch | Load)]
        loaded = [order.key for order in io if isinstance(order, Load)]
        failed = {key: self.load_failures[key] for key in loaded if key in self.load_failures}
        for key, error in failed.items():
            self._residency.on_load_failed(key, error)
        return failed

    def complete(self, completion: Completion) -> list[Io]:
        match completion:
            case Fetched(key, num_pages, host_bytes, source):
                return self._residency.on_fetched(key, num_pages, host_bytes, source)
            case FetchFailed(key, error):
                return self._residency.on_fetch_failed(key, error)
            case LoadEnded(key):
                return self._residency.on_load_ended(key)

    def outcome(self, order: Fetch | Load) -> Completion:
        if isinstance(order, Load):
            return LoadEnded(order.key)
        key = order.adapter.key
        if key in self.failures:
            return FetchFailed(key, self.failures[key])
        return Fetched(key, self.num_pages.get(key, 2), 100, FetchSource.STORE)


@dataclass
class World:
    """One engine and what it said so far."""

    num_pages: int = 32
    max_batch_tokens: int = 64
    max_batch_requests: int = 8
    max_queue: int = 100
    now_s: float = 0.0
    host_capacity_bytes: int = 10_000
    overlaps: bool = False
    tokens: dict[str, list[int]] = field(default_factory=dict)
    ended: dict[str, Finished | Failed] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pool = PagePool(self.num_pages)
        self.kv = KvCache(self.pool, PAGE_TOKENS)
        self.residency = Residency(self.pool, self.num_pages, self.host_capacity_bytes, lambda: self.now_s)
        self.scheduler = Scheduler(
            self.pool,
            self.kv,
            self.residency,
            max_batch_tokens=self.max_batch_tokens,
            max_batch_requests=self.max_batch_requests,
            clock=lambda: self.now_s,
        )
        self.io = FakeAdapterIo(self.residency)
        self.runner = FakeRunner(self.kv, self.residency, self.overlaps)
        self.engine = Engine(
            self.scheduler, self.residency, self.pool, self.io, self.runner,
            page_bytes=64, max_queue=self.max_queue, clock=lambda: self.now_s,
        )  # fmt: skip

    def submit(
        self,
        request_id: str,
        *,
        on: str = "",
        tenant: str = "t",
        prompt: int = 3,
        max_tokens: int = 4,
        priority: int = 0,
        deadline_s: float | None = None,
    ) -> Request:
        request = Request(
            request_id=request_id,
            prompt_token_ids=tuple(range(10, 10 + prompt)),
            adapter=adapter(on, tenant) if on else None,
            sampling=SamplingParams(max_tokens=max_tokens, seed=1),
            arrival_s=self.now_s,
            priority=priority,
            deadline_s=deadline_s,
            eos_token_ids=(EOS,),
        )
        self.engine.handle(Submit(request))
        return request

    def step(self) -> bool:
        events, busy = self.engine.step()
        for event in events:
            self.events.append(event)
            if isinstance(event, Tokens):
                self.tokens.setdefault(event.request_id, []).extend(event.token_ids)
            elif isinstance(event, Finished | Failed):
                assert event.request_id not in self.ended, f"{event.request_id} ended twice"
                self.ended[event.request_id] = event
        self.engine.check_integrity()
        return busy

    def finish_io(self, *keys: str) -> None:
        """Ends the pending fetches and loads; of `keys` only, if given."""
        done = [order for order in self.io.pending if not keys or _key(order) in {f"key-{k}" for k in keys}]
        for order in done:
            self.io.pending.remove(order)
            self.engine.complete(self.io.outcome(order))

    def run(self, max_steps: int = 1000) -> None:
        """Steps and ends all I/O until nothing is left to do."""
        for _ in range(max_steps):
            busy = self.step()
            pending = bool(self.io.pending)
            self.finish_io()
            if not busy and not pending:
                return
        raise AssertionError(f"still busy after {max_steps} steps: {self.engine!r}")


def _key(order: Fetch | Load) -> str:
    return order.key if isinstance(order, Load) else order.adapter.key
