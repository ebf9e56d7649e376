"""The RPCs of uploads: how the bytes of a version come in."""

from collections.abc import AsyncIterator

from protos.multilora.v1 import adapter_store_pb2 as pb
from services.adapter_store.domain.names import parse_adapter
from services.adapter_store.servicer import transfer, wire
from services.adapter_store.servicer.calling import Context, actor_of, call
from services.adapter_store.servicer.upload_room import UploadRoom
from services.adapter_store.store import Store


class UploadRpcs:
    """From StartUpload to the version that FinishUpload makes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._upload_room = UploadRoom(store.intake.max_streams)

    async def StartUpload(self, request: pb.StartUploadRequest, context: Context) -> pb.StartUploadResponse:
        """See the proto."""
        upload, persisted = await call(
            self._store.uploads.start,
            parse_adapter(request.parent, "parent"),
            wire.files_from(request.files),
            dict(request.labels),
            wire.lineage_from(request.lineage),
            request.request_id,
            actor_of(context, "StartUpload"),
            wire.signature_from(request),
        )
        return wire.started(upload, persisted)

    async def Upload(
        self, request_iterator: AsyncIterator[pb.UploadRequest], context: Context
    ) -> pb.UploadResponse:
        """See the proto."""
        persisted_bytes = await transfer.take(
            self._store.intake, self._upload_room, request_iterator, actor_of(context, "Upload")
        )
        return pb.UploadResponse(persisted_bytes=persisted_bytes)

    async def GetUpload(self, request: pb.GetUploadRequest, context: Context) -> pb.UploadStatus:
        """See the proto."""
        upload, persisted = await call(self._store.uploads.get, request.upload_id)
        return wire.upload_status(upload, persisted)

    async def AbortUpload(self, request: pb.AbortUploadRequest, context: Context) -> pb.AbortUploadResponse:
        """See the proto."""
        await call(self._store.uploads.abort, request.upload_id, actor_of(context, "AbortUpload"))
        return pb.AbortUploadResponse()

    async def FinishUpload(self, request: pb.FinishUploadRequest, context: Context) -> pb.AdapterVersion:
        """See the proto."""
        actor = actor_of(context, "FinishUpload")
        return wire.version(await call(self._store.uploads.finish, request.upload_id, actor))
