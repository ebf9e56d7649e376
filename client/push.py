"""Publishes one PEFT directory as an adapter's next version: create, start, upload, finish."""

import asyncio
import uuid
from collections.abc import Mapping
from pathlib import Path

import grpc

from client.adapter_directory import AdapterDirectory, read_adapter_directory
from client.errors import MultiloraError, from_rpc_error, invalid
from client.registry import AdapterVersion, Lineage
from client.signing import SigningKey, manifest
from client.upload import FileUpload, Progress, persisted_by_path, retrying, send_all
from client.wire import decode, to_json
from protos.multilora.v1 import adapter_store_pb2 as pb
from protos.multilora.v1.adapter_store_pb2_grpc import AdapterStoreServiceStub


class Push:
    """One push over an open connection. Every method raises MultiloraError."""

    def __init__(
        self,
        stub: AdapterStoreServiceStub,
        *,
        labels: Mapping[str, str],
        lineage: Lineage,
        request_id: str,
        signing_key: SigningKey | None = None,
    ) -> None:
        self._stub = stub
        self._signing_key = signing_key
        self._labels = dict(labels)
        self._lineage = lineage
        self._request_id = request_id or uuid.uuid4().hex

    async def ensure_adapter(self, name: str, base_model: str) -> None:
        """Creates the adapter if it is new; refuses a base model other than the one it was made for."""
        try:
            adapter = await self._stub.GetAdapter(pb.GetAdapterRequest(name=name))
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise from_rpc_error(error) from None
            await self._create(name, base_model or await self._only_base_model())
            return
        if base_model and adapter.base_model != base_model:
            raise MultiloraError(
                "FAILED_PRECONDITION",
                f"{name} is for base model {adapter.base_model}, not {base_model}: push under another name",
                reason="BASE_MODEL_MISMATCH",
                field="base_model",
            )

    async def _create(self, name: str, base_model: str) -> None:
        request = pb.CreateAdapterRequest(adapter=pb.Adapter(name=name, base_model=base_model))
        try:
            await self._stub.CreateAdapter(request)
        except grpc.aio.AioRpcError as error:
            # Somebody else pushed the first version at the same moment: that adapter will do.
            if error.code() is not grpc.StatusCode.ALREADY_EXISTS:
                raise from_rpc_error(error) from None

    async def _only_base_model(self) -> str:
        response = await retrying(lambda: self._stub.ListBaseModels(pb.ListBaseModelsRequest(page_size=50)))
        names: list[str] = [each.base_model for each in response.base_models]
        if len(names) == 1:
            return names[0]
        if not names:
            raise invalid(
                "base_model",
                "the store knows no base model yet: `multilora serve --model DIR` registers its own",
            )
        raise invalid(
            "base_model", f"say which base model the adapter is for; the store knows {', '.join(names)}"
        )

    async def upload(self, directory: Path, adapter: str, progress: Progress) -> AdapterVersion:
        """Sends the files that the store lacks and makes the version ACTIVE."""
        source = await asyncio.to_thread(read_adapter_directory, directory)
        start = await self._start(adapter, source)
        persisted = persisted_by_path(start.persisted)
        uploads = [
            FileUpload(self._stub, start.upload_id, source.path, file, persisted.get(file.path, 0), progress)
            for file in source.files
        ]
        await send_all([upload for upload in uploads if not upload.is_whole])
        try:
            return await self._finish(start.upload_id)
        except MultiloraError as error:
            if error.reason != "UPLOAD_INCOMPLETE":
                raise
        # An earlier push with this request_id was cut off between a file's last byte and its end.
        await send_all(uploads)
        return await self._finish(start.upload_id)

    async def _finish(self, upload_id: str) -> AdapterVersion:
        request = pb.FinishUploadRequest(upload_id=upload_id)
        return decode(AdapterVersion, await retrying(lambda: self._stub.FinishUpload(request)))

    async def _start(self, adapter: str, source: AdapterDirectory) -> pb.StartUploadResponse:
        request = pb.StartUploadRequest(
            parent=adapter,
            files=[pb.VersionFile(**to_json(file)) for file in source.files],
            labels=self._labels,
            lineage=pb.Lineage(**to_json(self._lineage)),
            request_id=self._request_id,
            signature=await self._sign(adapter, source),
        )
        response: pb.StartUploadResponse = await retrying(lambda: self._stub.StartUpload(request))
        return response

    async def _sign(self, adapter: str, source: AdapterDirectory) -> pb.Signature | None:
        """The signature over what is about to be sent, on the base model as the store knows it."""
        if self._signing_key is None:
            return None
        known = await retrying(lambda: self._stub.GetAdapter(pb.GetAdapterRequest(name=adapter)))
        base = await retrying(
            lambda: self._stub.GetBaseModel(pb.GetBaseModelRequest(base_model=known.base_model))
        )
        signed = self._signing_key.sign(manifest(known.name, base.base_model, base.digest, source.files))
        return pb.Signature(key_id=signed.key_id, signature=signed.signature)
