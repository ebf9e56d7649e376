"""The store client's calls of imports, leases and garbage. Part of StoreClient."""

import asyncio
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

import grpc

from client.errors import from_rpc_error, rpc_errors
from client.push import Push
from client.registry import AdapterVersion, CollectGarbageResponse, Lease, Lineage, Signature
from client.upload import NO_ANSWER, Progress, UploadProgress, ignore_progress, pause_s
from client.wire import decode, to_json
from protos.multilora.v1 import adapter_store_pb2 as pb

# Tries without a byte of progress before giving up.
_MAX_TRIES = 5


class StoreUpkeep:
    """Every method raises MultiloraError."""

    _stub: Any

    async def import_version(
        self,
        source: str,
        adapter: str,
        *,
        base_model: str = "",
        labels: Mapping[str, str] | None = None,
        lineage: Lineage | None = None,
        request_id: str = "",
        signature: Signature | None = None,
        progress: Progress = ignore_progress,
    ) -> AdapterVersion:
        """Has the store make a version of its own directory, `s3://BUCKET/PREFIX` or `hf://REPO@REVISION`.

        Creates the adapter if it is new, for `base_model` (default: the only one registered). Goes on where
        it was after a broken connection, and with a `request_id` used before. `signature` is over the
        manifest of what will be imported, made by who knows these bytes.
        """
        push = Push(self._stub, labels={}, lineage=Lineage(), request_id="")
        await push.ensure_adapter(adapter, base_model)
        request = pb.ImportVersionRequest(
            parent=adapter,
            source=source,
            labels=dict(labels or {}),
            lineage=pb.Lineage(**to_json(lineage or Lineage())),
            request_id=request_id or uuid.uuid4().hex,
        )
        if signature is not None:
            request.signature.key_id, request.signature.signature = signature.key_id, signature.signature
        most: dict[str, int] = {}
        attempt = 0
        while True:
            before = sum(most.values())
            try:
                return await self._import_once(request, progress, most)
            except grpc.aio.AioRpcError as error:
                attempt = 1 if sum(most.values()) > before else attempt + 1
                if error.code() not in NO_ANSWER or attempt >= _MAX_TRIES:
                    raise from_rpc_error(error) from None
            await asyncio.sleep(pause_s(attempt))

    async def _import_once(
        self, request: pb.ImportVersionRequest, progress: Progress, most: dict[str, int]
    ) -> AdapterVersion:
        async for response in self._stub.ImportVersion(request):
            if response.HasField("version"):
                return decode(AdapterVersion, response.version)
            done = response.progress
            most[done.path] = max(done.done_bytes, most.get(done.path, 0))
            progress(UploadProgress(done.path, done.done_bytes, done.total_bytes))
        raise AssertionError("unreachable: the stream ends with the version or an error")

    async def acquire_lease(
        self, lease_id: str, keys: Iterable[str], *, holder: str = "", ttl_s: int = 60
    ) -> Lease:
        """Keeps the bytes of these AdapterKeys for `ttl_s`; the same id again renews and replaces them."""
        request = pb.AcquireLeaseRequest(lease_id=lease_id, holder=holder, keys=keys, ttl_s=ttl_s)
        with rpc_errors():
            return decode(Lease, await self._stub.AcquireLease(request))

    async def release_lease(self, lease_id: str) -> None:
        """Ends a lease; no error if there is none."""
        with rpc_errors():
            await self._stub.ReleaseLease(pb.ReleaseLeaseRequest(lease_id=lease_id))

    async def collect_garbage(
        self, *, dry_run: bool = False, min_age_s: int | None = None
    ) -> CollectGarbageResponse:
        """Frees blobs that no version, upload or lease refers to; in a dry run only says which."""
        request = pb.CollectGarbageRequest(dry_run=dry_run, min_age_s=min_age_s)
        with rpc_errors():
            return decode(CollectGarbageResponse, await self._stub.CollectGarbage(request))
