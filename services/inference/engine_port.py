"""What the front end's parts ask of the engine, whichever process it is at the moment.

Must not know pipes or processes.
"""

from typing import Protocol

from services.inference.messages import (
    AdapterInfo,
    Cancel,
    EngineMetrics,
    EngineStats,
    Failed,
    Finished,
    Freed,
    ResidencyState,
    Started,
    Tokens,
)
from services.inference.request import AdapterKey, Request, ResolvedAdapter


class EventSink(Protocol):
    """Where the events of one request go; called on the event loop, must not wait."""

    def put(self, event: Started | Tokens | Finished | Failed) -> Cancel | None:
        """Takes an event; a Cancel in return ends the request in the engine."""
        ...


class EnginePort(Protocol):
    """An engine that takes requests. Every method raises ServiceError ENGINE_DOWN while there is none."""

    def submit(self, request: Request, sink: EventSink) -> None:
        """Runs `request`; its events go to `sink`."""
        ...

    def cancel(self, request_id: str) -> None:
        """Drops the request: no further event reaches its sink. Nothing happens if it has ended."""
        ...

    def set_tenant_quota(self, tenant: str, max_resident_bytes: int) -> None:
        """What the tenant's adapters may hold of the pool, for all that is submitted from now on."""
        ...

    async def load(self, adapter: ResolvedAdapter, tier: ResidencyState, *, pin: bool) -> AdapterInfo:
        """Returns when the adapter has reached `tier`."""
        ...

    async def unload(self, key: AdapterKey, tenant: str, tier: ResidencyState) -> Freed:
        """Returns when the tenant's requests on it have ended and it holds no `tier`."""
        ...

    async def stats(self) -> EngineStats:
        """The engine's counters now."""
        ...

    async def metrics(self) -> EngineMetrics:
        """The stats and the distributions now."""
        ...

    async def list_resident(self) -> tuple[AdapterInfo, ...]:
        """The adapters the engine knows of, sorted by version name."""
        ...
