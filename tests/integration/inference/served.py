"""An InferenceService on loopback over a fake engine and store, and the errors its callers see."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from protos.multilora.v1 import inference_pb2 as pb
from protos.multilora.v1 import inference_pb2_grpc as pb_grpc
from services.common.gate import Gate, OpenGate
from services.common.server import Server
from services.inference.engine_client import EngineClient
from services.inference.registration import add_to_server
from services.inference.served_model import ServedModel, read_served_model
from services.inference.servicer import InferenceServicer
from services.inference.settings import Settings
from services.inference.tenant_directory import TenantDirectory
from services.inference.tenants import Tenants
from tests.fakes import READY, FakeEngine, FakeStore, adapter
from tests.small_tokenizers import EOS, byte_level

SUPPORT = adapter("tenants/acme/adapters/support/versions/3", rank=12)
DIGEST = "d" * 64
CHAT_TEMPLATE = (
    "{{ '<s>' }}{% for m in messages %}"
    "{% if m.role == 'robot' %}{{ raise_exception('no robots') }}{% endif %}"
    "{{ m.content }}{% endfor %}{% if add_generation_prompt %}:{% endif %}"
)
SMALL_WINDOW = [("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0)]


@dataclass(slots=True)
class Served:
    """A running service: call it by `stub`, play the engine by `engine`."""

    stub: Any
    servicer: InferenceServicer
    client: EngineClient
    engine: FakeEngine
    store: FakeStore


def write_model_dir(model_dir: Path, *, chat_template: str | None = None) -> Path:
    """A model directory but for the weights, which the front end never reads."""
    tokenizer = byte_level()
    tokenizer.save(str(model_dir / "tokenizer.json"))
    config = {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": tokenizer.get_vocab_size(),
        "max_position_embeddings": 1024,
        "rms_norm_eps": 1e-5,
        "eos_token_id": tokenizer.token_to_id(EOS),
    }
    (model_dir / "config.json").write_text(json.dumps(config))
    (model_dir / "tokenizer_config.json").write_text(json.dumps({"chat_template": chat_template}))
    return model_dir


def read_model(model_dir: Path) -> ServedModel:
    """The model of `model_dir`, on the CPU."""
    return read_served_model(Settings(model=model_dir, base_model="demo"))


@asynccontextmanager
async def serve(model: ServedModel, engine: FakeEngine, gate: Gate | None = None) -> AsyncIterator[Served]:
    """A service with one adapter, `acme/support`; checks at the end that nothing is left over."""
    store = FakeStore({"acme/support": SUPPORT})
    server = Server("127.0.0.1:0", "multilora.v1.InferenceService")
    client = EngineClient(engine)
    servicer = InferenceServicer(model, client, store, tenants=Tenants(TenantDirectory(store.tenant), client))
    servicer.open(READY, DIGEST)
    add_to_server(servicer, server.inner, gate or OpenGate())
    address = await server.start()
    async with grpc.aio.insecure_channel(address, options=SMALL_WINDOW) as channel:
        yield Served(pb_grpc.InferenceServiceStub(channel), servicer, client, engine, store)
    await server.inner.stop(grace=5.0)
    servicer.check_integrity()
    client.check_integrity()
    await client.shut_down()


async def read_all(call: Any) -> list[pb.GenerateResponse]:
    """Every response of a call."""
    # Not `async for`: a call that has been read from cannot be iterated any more.
    responses = []
    while (response := await call.read()) is not grpc.aio.EOF:
        responses.append(response)
    return responses


def text_of(responses: list[pb.GenerateResponse]) -> str:
    """All deltas' text."""
    return "".join(response.delta.text for response in responses)


def kinds(responses: list[pb.GenerateResponse]) -> list[str]:
    """started, delta, ..., finished."""
    return [response.WhichOneof("event") for response in responses]


def error_of(error: grpc.aio.AioRpcError) -> tuple[str, str, str, float | None]:
    """(code, reason, field, seconds to wait before a retry) of a status."""
    status = rpc_status.from_call(error)
    assert status is not None, error
    reason, field, retry_s = "", "", None
    for detail in status.details:
        info, bad, retry = (
            error_details_pb2.ErrorInfo(),
            error_details_pb2.BadRequest(),
            error_details_pb2.RetryInfo(),
        )
        if detail.Unpack(info):
            assert info.domain == "multilora"
            reason = info.reason
        elif detail.Unpack(bad):
            field = bad.field_violations[0].field
        elif detail.Unpack(retry):
            retry_s = retry.retry_delay.ToTimedelta().total_seconds()
    return error.code().name, reason, field, retry_s
