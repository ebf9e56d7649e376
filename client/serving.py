"""What an inference server says of itself: its model, its resident adapters, its counters."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Residency(StrEnum):
    """Where an adapter's weights are, from far to near."""

    RESIDENCY_UNSPECIFIED = "RESIDENCY_UNSPECIFIED"
    REMOTE = "REMOTE"
    FETCHING = "FETCHING"
    HOST = "HOST"
    LOADING = "LOADING"
    DEVICE = "DEVICE"


@dataclass(frozen=True, slots=True)
class Model:
    """The base model a server runs, and what adapters it takes."""

    base_model: str
    base_model_digest: str
    architecture: str
    max_context_tokens: int
    max_rank: int
    dtype: str
    device: str
    target_modules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ResidentAdapter:
    """One adapter version that a server holds or is bringing in."""

    adapter_version: str
    key: str
    residency: Residency
    pinned: bool
    rank: int
    device_bytes: int
    host_bytes: int
    running_requests: int
    waiting_requests: int
    last_used_time: datetime | None


@dataclass(frozen=True, slots=True)
class Unloaded:
    """What an unload gave back."""

    freed_device_bytes: int
    freed_host_bytes: int


@dataclass(frozen=True, slots=True)
class PoolStats:
    """Pages of the one pool, by use, and the most that each use had at once."""

    page_bytes: int
    total_pages: int
    free_pages: int
    kv_pages: int
    adapter_pages: int
    peak_kv_pages: int
    peak_adapter_pages: int


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Where requests found their adapter, and what was evicted."""

    device_hits: int
    host_hits: int
    disk_hits: int
    store_fetches: int
    device_evictions: int
    host_evictions: int
    fetch_failures: int
    host_bytes: int
    resident_adapters: int


@dataclass(frozen=True, slots=True)
class TokenStats:
    """Tokens since the start."""

    prompt: int
    generated: int


@dataclass(frozen=True, slots=True)
class StepStats:
    """Engine steps since the start; `mixed` ones held two or more different adapters."""

    total: int
    mixed: int
    max_adapters_in_batch: int
    max_requests_in_batch: int


@dataclass(frozen=True, slots=True)
class RequestStats:
    """Requests since the start, by how they ended."""

    finished: int
    cancelled: int
    failed: int


@dataclass(frozen=True, slots=True)
class StoreStats:
    """How the server stands with its store: whether it hears every change, and how names were answered."""

    connected: bool
    disconnected_s: float
    changes_seen: int
    resolve_hits: int
    resolve_calls: int
    stale_resolves: int


@dataclass(frozen=True, slots=True)
class ShadowStats:
    """Copies of requests on shadow versions, and how they compare with their requests."""

    started: int
    finished: int
    failed: int
    dropped: int
    compared_tokens: int
    diverged: int
    primary_s: float
    shadow_s: float


@dataclass(frozen=True, slots=True)
class Stats:
    """The counters of one inference server."""

    pool: PoolStats
    queued_requests: int
    running_requests: int
    cache: CacheStats
    tokens: TokenStats
    steps: StepStats
    preemptions: int
    requests: RequestStats
    store: StoreStats
    shadow: ShadowStats
