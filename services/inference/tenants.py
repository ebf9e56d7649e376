"""Holds requests to their tenants' quotas: those of the front end here, that of the pool in the engine.

Must not know the wire, nor where quotas come from.
"""

from services.common.caller import Caller
from services.inference.engine_port import EnginePort, EventSink
from services.inference.messages import Cancel, Failed, Finished, Started, Tokens
from services.inference.request import Request, ResolvedAdapter
from services.inference.tenant_directory import TenantDirectory
from services.inference.tenant_traffic import TenantTraffic, Ticket


class Tenants:
    """All tenants that ask for something here."""

    def __init__(self, directory: TenantDirectory, engine: EnginePort) -> None:
        self._directory = directory
        self._engine = engine
        self._traffic = TenantTraffic()
        # What the engine was told of each tenant's share of the pool.
        self._resident_bytes: dict[str, int] = {}

    async def admit(self, request: Request, caller: Caller) -> Ticket | None:
        """Counts the request for its adapter's tenant, or the caller's, if any.

        Raises QUOTA_EXCEEDED, or STORE_UNAVAILABLE if the quotas cannot be had.
        """
        tenant = tenant_charged(request, caller)
        if tenant is None:
            return None
        quotas = await self._directory.quotas(tenant)
        self._tell_engine(tenant, quotas.max_resident_bytes)
        return self._traffic.admit(tenant, quotas, len(request.prompt_token_ids))

    async def prepare_load(self, adapter: ResolvedAdapter) -> None:
        """Makes the engine hold the adapter's tenant to its quota. Raises STORE_UNAVAILABLE."""
        quotas = await self._directory.quotas(adapter.tenant)
        self._tell_engine(adapter.tenant, quotas.max_resident_bytes)

    def _tell_engine(self, tenant: str, max_resident_bytes: int) -> None:
        if self._resident_bytes.get(tenant, 0) == max_resident_bytes:
            return
        if max_resident_bytes:
            self._resident_bytes[tenant] = max_resident_bytes
        else:
            del self._resident_bytes[tenant]
        self._engine.set_tenant_quota(tenant, max_resident_bytes)

    def check_integrity(self) -> None:
        """Raises AssertionError unless nothing is counted any more."""
        self._directory.check_integrity()
        self._traffic.check_idle()

    def __repr__(self) -> str:
        return f"Tenants({self._traffic!r}, {self._directory!r})"


def tenant_charged(request: Request, caller: Caller) -> str | None:
    """Whose quotas the request counts for: its adapter's tenant, or the caller's, if any."""
    return request.adapter.tenant if request.adapter else caller.only_tenant


class CountedSink:
    """Tells a ticket of what a request gets, whether anybody reads it or not, and passes it on."""

    def __init__(self, sink: EventSink, ticket: Ticket) -> None:
        self._sink = sink
        self._ticket = ticket

    def put(self, event: Started | Tokens | Finished | Failed) -> Cancel | None:
        """See EventSink."""
        match event:
            case Started():
                self._ticket.start()
            case Tokens(token_ids=token_ids):
                self._ticket.spend(len(token_ids))
        return self._sink.put(event)
