"""Inference's store client and fetcher against the real adapter store."""

import asyncio
import queue
import shutil

import pytest

from client import StoreClient
from services.adapter_store.servicer import SERVICE_NAME, add_to_server
from services.adapter_store.settings import PlaceSettings
from services.adapter_store.store import open_store
from services.common.errors import Code, Reason, ServiceError
from services.common.gate import OpenGate
from services.common.server import Server
from services.inference.adapters.completions import Fetched, FetchFailed
from services.inference.adapters.io_orders import FetchSource
from services.inference.adapters.store_client import AsyncStoreClient
from services.inference.adapters.store_link import StoreLink
from services.inference.adapters.store_reader import StoreReader
from services.inference.model.config import ModelConfig, RopeConfig
from services.inference.model.sites import lora_sites
from tests.unit.inference.adapters.fetch_parts import FetchParts
from tests.unit.inference.adapters.lora_files import Q0, linear, write

CONFIG = ModelConfig(
    architecture="LlamaForCausalLM",
    hidden_size=16,
    intermediate_size=24,
    num_layers=2,
    num_heads=2,
    num_kv_heads=1,
    head_dim=8,
    vocab_size=40,
    max_context_tokens=64,
    norm_eps=1e-5,
    rope=RopeConfig(10000.0),
    tie_word_embeddings=False,
    qkv_bias=False,
    qk_norm=False,
    sliding_window_tokens=None,
)


class Stage:
    """A running store with the base model `tiny`, and inference's ends of the wire to it."""

    def __init__(self, address, blob_dir, tmp_path):
        self.client = AsyncStoreClient(StoreLink(address), "tiny")
        self.publisher = StoreClient(address)
        self.blob_dir = blob_dir
        self.posted = queue.SimpleQueue()
        self.cache_dir = tmp_path / "cache"
        self.parts = FetchParts(
            StoreReader(StoreLink(address)),
            self.cache_dir,
            self.posted.put,
            lora_sites(CONFIG),
            chunk_bytes=1 << 20,
        )

    async def fetch(self, adapter):
        self.parts.fetcher.submit(adapter)
        return await asyncio.to_thread(self.posted.get, timeout=10)

    async def close(self):
        await asyncio.to_thread(self.parts.close)
        await self.client.close()
        await self.publisher.close()


@pytest.fixture
async def stage(tmp_path):
    with open_store(PlaceSettings(data_dir=tmp_path / "store"), 1 << 30) as store:
        server = Server("127.0.0.1:0", SERVICE_NAME)
        add_to_server(store, server.inner, OpenGate())
        stage = Stage(await server.start(), tmp_path / "store" / "blobs", tmp_path)
        await stage.client.register_base_model("tiny", "d" * 64, CONFIG, 64)
        yield stage
        await stage.close()
        await server.inner.stop(None)


async def test_what_was_pushed_is_resolved_and_fetched(stage, tmp_path):
    directory = write(tmp_path / "a", linear(Q0, 4))
    version = await stage.publisher.push(directory, "acme/support", alias="production")
    adapter = (await stage.client.resolve("acme/support")).adapter
    assert (adapter.key, adapter.version_name) == (version.key, version.name)
    assert await stage.fetch(adapter) == Fetched(adapter.key, 1, 1024, FetchSource.STORE)
    assert (await stage.fetch(adapter)).source is FetchSource.DISK
    assert (stage.cache_dir / adapter.key / "adapter_model.safetensors").read_bytes() == (
        directory / "adapter_model.safetensors"
    ).read_bytes()


async def test_a_disabled_version_is_refused_to_new_requests_but_fetched_for_old_ones(stage, tmp_path):
    version = await stage.publisher.push(write(tmp_path / "a", linear(Q0, 4)), "acme/support")
    adapter = (await stage.client.resolve("acme/support@1")).adapter
    await stage.publisher.disable_version(version.name)
    with pytest.raises(ServiceError) as caught:
        await stage.client.resolve("acme/support@1")
    assert (caught.value.code, caught.value.reason) == (Code.FAILED_PRECONDITION, Reason.VERSION_NOT_ACTIVE)
    assert isinstance(await stage.fetch(adapter), Fetched)


@pytest.mark.parametrize("with_its_adapter", [False, True])
async def test_what_was_deleted_right_after_it_was_resolved_can_still_be_fetched(
    stage, tmp_path, with_its_adapter
):
    await stage.publisher.push(write(tmp_path / "a", linear(Q0, 4)), "acme/support")
    adapter = (await stage.client.resolve("acme/support@1")).adapter
    if with_its_adapter:
        await stage.publisher.delete_adapter("acme/support")
    else:
        await stage.publisher.delete_version("acme/support@1")
    with pytest.raises(ServiceError):
        await stage.client.resolve("acme/support@1")
    assert isinstance(await stage.fetch(adapter), Fetched)


async def test_an_unknown_adapter_is_not_found(stage):
    with pytest.raises(ServiceError) as caught:
        await stage.client.resolve("acme/nobody")
    assert (caught.value.code, caught.value.reason) == (Code.NOT_FOUND, Reason.ADAPTER_NOT_FOUND)


@pytest.mark.parametrize("damage", ["flipped", "gone"])
async def test_a_blob_damaged_at_rest_is_told_and_not_kept(stage, tmp_path, damage):
    await stage.publisher.push(write(tmp_path / "a", linear(Q0, 4)), "acme/support")
    adapter = (await stage.client.resolve("acme/support")).adapter
    if damage == "gone":
        shutil.rmtree(stage.blob_dir)
    else:
        for path in [path for path in stage.blob_dir.rglob("*") if path.is_file()]:
            data = path.read_bytes()
            path.chmod(0o600)
            path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    failed = await stage.fetch(adapter)
    assert isinstance(failed, FetchFailed)
    assert (failed.error.code, failed.error.reason) == (Code.DATA_LOSS, Reason.CORRUPT_BLOB)
    assert list(stage.cache_dir.iterdir()) == []


async def test_another_digest_under_the_base_model_s_name_is_refused(stage):
    with pytest.raises(ServiceError) as caught:
        await stage.client.register_base_model("tiny", "e" * 64, CONFIG, 64)
    assert caught.value.reason is Reason.BASE_MODEL_CONFLICT
