"""What the front end and the engine process say to each other over their pipe.

Plain picklable values. The front end sends commands, one a message; the engine sends one tuple of
events a step. Must not know torch, gRPC or the wire.
"""

from dataclasses import dataclass
from enum import StrEnum

from services.common.errors import ServiceError
from services.common.histogram import Histogram
from services.inference.request import AdapterKey, FinishReason, Request, ResolvedAdapter


class ResidencyState(StrEnum):
    """Where an adapter's weights are; the names are the wire's."""

    REMOTE = "REMOTE"
    FETCHING = "FETCHING"
    HOST = "HOST"
    LOADING = "LOADING"
    DEVICE = "DEVICE"


# ---- commands: front end -> engine


@dataclass(frozen=True, slots=True)
class Submit:
    """Run this request; Started, Tokens and Finished or Failed follow."""

    request: Request


@dataclass(frozen=True, slots=True)
class Cancel:
    """Drop this request at the next step. Finished(reason) follows unless it had ended already.

    `reason` is STOP when the front end found a stop string: that is no cancellation.
    """

    request_id: str
    reason: FinishReason = FinishReason.CANCELLED


@dataclass(frozen=True, slots=True)
class LoadAdapter:
    """Bring an adapter to `tier` (HOST or DEVICE); Reply(AdapterInfo | ServiceError) follows."""

    call_id: int
    adapter: ResolvedAdapter
    tier: ResidencyState
    pin: bool


@dataclass(frozen=True, slots=True)
class UnloadAdapter:
    """Drain, then end the tenant's hold: on pages, for HOST on both. Reply(Freed | ServiceError) follows."""

    call_id: int
    key: AdapterKey
    tenant: str
    tier: ResidencyState


@dataclass(frozen=True, slots=True)
class SetTenantQuota:
    """From now on the tenant's adapters may hold this much of the pool; 0 is no limit. No answer."""

    tenant: str
    max_resident_bytes: int


@dataclass(frozen=True, slots=True)
class GetStats:
    """Reply(EngineStats) follows."""

    call_id: int


@dataclass(frozen=True, slots=True)
class GetMetrics:
    """Reply(EngineMetrics) follows."""

    call_id: int


@dataclass(frozen=True, slots=True)
class ListResident:
    """Reply(tuple[AdapterInfo, ...]) follows, one for each tenant and adapter, sorted by version name."""

    call_id: int


@dataclass(frozen=True, slots=True)
class Shutdown:
    """Stop now; what still runs is cancelled. The process exits after its last events."""


Command = (
    Submit
    | Cancel
    | LoadAdapter
    | UnloadAdapter
    | SetTenantQuota
    | GetStats
    | GetMetrics
    | ListResident
    | Shutdown
)


# ---- events: engine -> front end


@dataclass(frozen=True, slots=True)
class Ready:
    """The model is loaded and warm; sent once, first."""

    num_pages: int
    page_bytes: int
    max_context_tokens: int


@dataclass(frozen=True, slots=True)
class Started:
    """The request's first step has been launched."""

    request_id: str
    num_cached_tokens: int
    queue_s: float
    adapter_wait_s: float


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Log-probability of a chosen token and of the best ones, best first."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Tokens:
    """New tokens of a request. A stop token or end-of-sequence token is not among them."""

    request_id: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprobs, ...] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """The request is gone from the engine. `stop_token_id` is what ended a STOP."""

    request_id: str
    reason: FinishReason
    stop_token_id: int | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The request is gone from the engine, for this reason."""

    request_id: str
    error: ServiceError


@dataclass(frozen=True, slots=True)
class AdapterInfo:
    """One tenant's use of an adapter that the engine knows of. `last_used_s` is time.monotonic() seconds."""

    version_name: str
    key: AdapterKey
    residency: ResidencyState
    pinned: bool
    rank: int
    device_bytes: int
    host_bytes: int
    running_requests: int
    waiting_requests: int
    last_used_s: float


@dataclass(frozen=True, slots=True)
class Freed:
    """What the tenant holds no more; free for all once no other tenant holds the same bytes."""

    device_bytes: int
    host_bytes: int


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Counters since the start and gauges of now; the fields are those of the wire's Stats."""

    page_bytes: int
    total_pages: int
    free_pages: int
    kv_pages: int
    adapter_pages: int
    peak_kv_pages: int
    peak_adapter_pages: int
    queued_requests: int
    running_requests: int
    device_hits: int
    host_hits: int
    disk_hits: int
    store_fetches: int
    device_evictions: int
    host_evictions: int
    fetch_failures: int
    host_bytes: int
    resident_adapters: int
    prompt_tokens: int
    generated_tokens: int
    steps: int
    mixed_steps: int
    max_adapters_in_batch: int
    max_requests_in_batch: int
    preemptions: int
    finished_requests: int
    cancelled_requests: int
    failed_requests: int


@dataclass(frozen=True, slots=True)
class EngineMetrics:
    """What the metrics tell beyond the stats. `load_seconds` is by source: store, disk, host."""

    stats: EngineStats
    adapters_by_residency: dict[ResidencyState, int]
    batch_requests: Histogram
    batch_adapters: Histogram
    load_seconds: dict[str, Histogram]
    fetched_bytes: int


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to the command with this call_id."""

    call_id: int
    value: AdapterInfo | Freed | EngineStats | EngineMetrics | tuple[AdapterInfo, ...] | ServiceError


@dataclass(frozen=True, slots=True)
class AdapterIoEnded:
    """Adapter I/O that a traced request waited for: `kind` is fetch or load; time.monotonic() seconds."""

    traceparent: str
    key: AdapterKey
    kind: str
    source: str
    began_s: float
    ended_s: float
    error: str


Event = Ready | Started | Tokens | Finished | Failed | Reply | AdapterIoEnded
Events = tuple[Event, ...]
