"""The RPCs of leases and garbage: what must stay, and what goes."""

from protos.multilora.v1 import adapter_store_pb2 as pb
from services.adapter_store.servicer import wire
from services.adapter_store.servicer.calling import Context, actor_of, call
from services.adapter_store.store import Store


class UpkeepRpcs:
    """Leases and garbage."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def AcquireLease(self, request: pb.AcquireLeaseRequest, context: Context) -> pb.Lease:
        """See the proto."""
        actor = actor_of(context, "AcquireLease")
        lease = await call(
            self._store.leases.acquire, request.lease_id, request.holder, request.keys, request.ttl_s, actor
        )
        return wire.lease(lease)

    async def ReleaseLease(
        self, request: pb.ReleaseLeaseRequest, context: Context
    ) -> pb.ReleaseLeaseResponse:
        """See the proto."""
        await call(self._store.leases.release, request.lease_id, actor_of(context, "ReleaseLease"))
        return pb.ReleaseLeaseResponse()

    async def CollectGarbage(
        self, request: pb.CollectGarbageRequest, context: Context
    ) -> pb.CollectGarbageResponse:
        """See the proto."""
        min_age_s = request.min_age_s if request.HasField("min_age_s") else None
        actor = actor_of(context, "CollectGarbage")
        return wire.garbage(await call(self._store.garbage.collect, request.dry_run, min_age_s, actor))
