"""An inference service over a fake engine, guarded by tokens of a real store, in a thread of its own."""

import asyncio
import threading
from contextlib import AsyncExitStack
from dataclasses import fields
from pathlib import Path
from typing import Self

import grpc
from google.protobuf.message import Message

from protos.multilora.v1 import inference_pb2 as pb
from protos.multilora.v1 import inference_pb2_grpc as pb_grpc
from services.common.gate import TokenGate
from services.common.server import Server
from services.inference.adapters.store_client import AsyncStoreClient
from services.inference.adapters.store_link import StoreLink
from services.inference.caller_cache import CallerCache
from services.inference.engine_client import EngineClient
from services.inference.messages import (
    AdapterInfo,
    EngineStats,
    Freed,
    GetStats,
    ListResident,
    LoadAdapter,
    Reply,
    ResidencyState,
    Submit,
    UnloadAdapter,
)
from services.inference.registration import SERVICE_NAME, add_to_server
from services.inference.served_model import read_served_model
from services.inference.servicer import InferenceServicer
from services.inference.settings import Settings
from services.inference.tenant_directory import TenantDirectory
from services.inference.tenants import Tenants as TenantLimits
from tests.adapter_files import BASE_MODEL
from tests.fakes import READY, FakeEngine, generate
from tests.integration.access.tenants import Bearer, Tenants
from tests.integration.inference.served import DIGEST, write_model_dir


def engine_script(command):
    """Answers every command in the simplest way that is right."""
    match command:
        case Submit():
            yield from generate([5, 6])(command)
        case LoadAdapter(call_id, adapter):
            yield (Reply(call_id, _info(adapter.version_name, adapter.key)),)
        case UnloadAdapter(call_id):
            yield (Reply(call_id, Freed(0, 0)),)
        case ListResident(call_id):
            names = ("tenants/acme/adapters/x/versions/1", "tenants/other/adapters/y/versions/1")
            yield (Reply(call_id, tuple(_info(name, "0" * 64) for name in names)),)
        case GetStats(call_id):
            yield (Reply(call_id, EngineStats(**{field.name: 0 for field in fields(EngineStats)})),)


def _info(version_name: str, key: str) -> AdapterInfo:
    return AdapterInfo(version_name, key, ResidencyState.DEVICE, False, 4, 0, 0, 0, 0, 0.0)


class InferenceServer:
    """Serves from entering to leaving."""

    def __init__(self, directory: Path, world: Tenants) -> None:
        token_file = directory / "service.token"
        token_file.write_text(world.secrets["service"])
        model_dir = directory / "model"
        model_dir.mkdir()
        self._model = read_served_model(
            Settings(model=write_model_dir(model_dir), base_model=BASE_MODEL.name)
        )
        self._link = StoreLink(world.store.address, token_file=token_file)
        self._world = world
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="inference", daemon=True)
        self._stack = AsyncExitStack()

    def __enter__(self) -> Self:
        self._thread.start()
        address = self._run(self._start())
        self._channel = grpc.insecure_channel(address)
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()
        self._run(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def stub(self, caller: str) -> Bearer:
        return Bearer(pb_grpc.InferenceServiceStub(self._channel), self._world.secrets[caller])

    def request(self, rpc: str) -> Message:
        """A fine request, about an adapter of acme where it names one."""
        adapter = self._world.shared_version().name
        values = {
            "Generate": {"adapter": adapter, "text": "x"},
            "LoadAdapter": {"adapter": adapter},
            "UnloadAdapter": {"adapter": adapter},
        }
        return getattr(pb, f"{rpc}Request")(**values.get(rpc, {}))

    def _run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _start(self) -> str:
        store = AsyncStoreClient(self._link, self._model.name)
        self._stack.push_async_callback(store.close)
        client = EngineClient(FakeEngine(engine_script))
        self._stack.push_async_callback(client.shut_down)
        limits = TenantLimits(TenantDirectory(store.tenant), client)
        servicer = InferenceServicer(self._model, client, store, tenants=limits)
        servicer.open(READY, DIGEST)
        server = Server("127.0.0.1:0", SERVICE_NAME)
        add_to_server(servicer, server.inner, TokenGate(CallerCache(store.authenticate).caller))
        address = await server.start()
        self._stack.push_async_callback(server.inner.stop, None)
        return address
