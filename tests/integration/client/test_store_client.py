"""StoreClient against the real store, in a process of its own where it is killed."""

import asyncio
import signal
from contextlib import asynccontextmanager

import pytest

from client import MultiloraError, StoreClient, VersionState
from client.bench.random_adapters import push_random_adapters, write_random_adapter
from client.registry import BaseModel, Lineage, Module, Signature
from tests.e2e.processes import Service, start_store

BASE = BaseModel(
    base_model="tiny",
    digest="d" * 64,
    architecture="LlamaForCausalLM",
    hidden_size=64,
    num_layers=2,
    modules=(Module("self_attn.q_proj", 64, 64), Module("mlp.down_proj", 128, 64)),
    max_rank=32,
)


@pytest.fixture
def service(tmp_path):
    with start_store(tmp_path / "store") as store:
        yield store


@asynccontextmanager
async def connected(service):
    async with StoreClient(service.address) as store:
        await store.register_base_model(BASE)
        yield store


def make_adapter(directory, *, rank=8, seed=0, base=BASE):
    directory.mkdir(parents=True, exist_ok=True)
    write_random_adapter(directory, base, rank=rank, seed=seed)
    return directory


async def test_push_publishes_a_version_under_its_alias(service, tmp_path):
    directory = make_adapter(tmp_path / "a")
    async with connected(service) as store:
        version = await store.push(
            directory, "acme/a", alias="production", labels={"team": "x"}, lineage=Lineage(run_id="r7")
        )
        assert (version.version, version.state, version.rank) == (1, VersionState.ACTIVE, 8)
        assert version.labels == {"team": "x"}
        assert version.lineage.run_id == "r7"
        resolved = await store.resolve_version("acme/a")
        assert resolved.key == version.key
        adapter = await store.get_adapter("acme/a")
        assert adapter.base_model == "tiny"
        assert [alias.version for alias in adapter.aliases] == [1]
        assert [each.name for each in await store.list_adapters("acme")] == [adapter.name]
        assert await store.list_adapters("other") == []


async def test_read_gives_the_bytes_back(service, tmp_path):
    directory = make_adapter(tmp_path / "a", rank=32)
    weights = (directory / "adapter_model.safetensors").read_bytes()
    async with connected(service) as store:
        await store.push(directory, "acme/a")
        whole = b"".join([chunk async for chunk in store.read("acme/a@1", "adapter_model.safetensors")])
        part = b"".join(
            [
                chunk
                async for chunk in store.read("acme/a@1", "adapter_model.safetensors", offset=10, limit=90)
            ]
        )
    assert whole == weights
    assert part == weights[10:100]


async def test_the_second_push_is_version_two_and_the_same_request_is_the_same_version(service, tmp_path):
    async with connected(service) as store:
        first = await store.push(make_adapter(tmp_path / "a", seed=1), "acme/a", request_id="job-1")
        again = await store.push(make_adapter(tmp_path / "a", seed=1), "acme/a", request_id="job-1")
        second = await store.push(make_adapter(tmp_path / "b", seed=2), "acme/a")
        assert (first.version, again.version, second.version) == (1, 1, 2)
        assert [version.version for version in await store.list_versions("acme/a")] == [2, 1]
        assert first.key != second.key


async def test_aliases_move_by_compare_and_swap_and_keep_their_history(service, tmp_path):
    async with connected(service) as store:
        for seed in (1, 2):
            await store.push(make_adapter(tmp_path / str(seed), seed=seed), "acme/a")
        await store.set_alias("acme/a@staging", 1, expected_version=0)
        with pytest.raises(MultiloraError) as lost:
            await store.set_alias("acme/a@staging", 2, expected_version=0)
        assert (lost.value.code, lost.value.reason) == ("ABORTED", "ALIAS_MOVED")
        moved = await store.set_alias("acme/a@staging", 2, expected_version=1)
        assert moved.version == 2
        moves = await store.list_alias_history("acme/a@staging")
        assert [(move.from_version, move.to_version) for move in moves] == [(1, 2), (0, 1)]
        await store.delete_alias("acme/a@staging")
        with pytest.raises(MultiloraError, match="ALIAS_NOT_FOUND"):
            await store.resolve_version("acme/a@staging")


async def test_a_disabled_version_is_not_resolved_until_it_is_enabled(service, tmp_path):
    async with connected(service) as store:
        await store.push(make_adapter(tmp_path / "a"), "acme/a")
        assert (await store.disable_version("acme/a@1")).state is VersionState.DISABLED
        with pytest.raises(MultiloraError):
            await store.resolve_version("acme/a@1")
        assert (await store.enable_version("acme/a@1")).state is VersionState.ACTIVE
        assert (await store.resolve_version("acme/a@1")).version == 1


async def test_update_changes_only_what_is_given(service, tmp_path):
    async with connected(service) as store:
        await store.create_adapter("acme/a", "tiny", description="old", labels={"a": "b"})
        updated = await store.update_adapter("acme/a", description="new")
        assert (updated.description, updated.labels) == ("new", {"a": "b"})
        with pytest.raises(MultiloraError, match="STALE_ETAG"):
            await store.update_adapter("acme/a", description="newer", etag="stale")


async def test_the_base_model_is_found_or_asked_for(service, tmp_path):
    directory = make_adapter(tmp_path / "a")
    async with StoreClient(service.address) as store:
        with pytest.raises(MultiloraError, match="knows no base model yet"):
            await store.push(directory, "acme/a")
        await store.register_base_model(BASE)
        other = BaseModel(**{name: getattr(BASE, name) for name in BASE.__slots__} | {"base_model": "other"})
        await store.register_base_model(other)
        with pytest.raises(MultiloraError, match=r"other, tiny|tiny, other"):
            await store.push(directory, "acme/a")
        await store.push(directory, "acme/a", base_model="tiny")
        with pytest.raises(MultiloraError, match="push under another name"):
            await store.push(directory, "acme/a", base_model="other")
        assert {model.base_model for model in await store.list_base_models()} == {"tiny", "other"}


async def test_a_refused_adapter_is_named_and_leaves_a_failed_version(service, tmp_path):
    directory = make_adapter(tmp_path / "a")
    config = directory / "adapter_config.json"
    config.write_text(config.read_text().replace('"bias": "none"', '"bias": "all"'))
    async with connected(service) as store:
        with pytest.raises(MultiloraError) as refused:
            await store.push(directory, "acme/a")
        assert (refused.value.reason, refused.value.field) == ("UNSUPPORTED_ADAPTER", "bias")
        (version,) = await store.list_versions("acme/a")
        assert version.state is VersionState.FAILED
        assert "bias" in version.status_message


async def test_random_adapters_are_pushed_once(service):
    async with connected(service) as store:
        names = await push_random_adapters(store, BASE, 3)
        again = await push_random_adapters(store, BASE, 3)
        assert names == again
        assert [(await store.list_versions(name))[0].version for name in names] == [1, 1, 1]
        assert {(await store.resolve_version(name)).rank for name in names} == {4, 8, 12}


async def test_a_push_survives_the_store_being_killed_under_it(tmp_path):
    """Killed while chunks are on their way; another process on the same port takes the rest."""
    wide = BaseModel(
        **{name: getattr(BASE, name) for name in BASE.__slots__}
        | {"modules": (Module("self_attn.q_proj", 16384, 8192),), "base_model": "wide"}
    )
    directory = make_adapter(tmp_path / "a", rank=32, base=wide)
    first = start_store(tmp_path / "store")
    killed = asyncio.Event()

    def kill_midway(progress):
        if progress.sent_bytes > 2 << 20 and not killed.is_set():
            first.stop(signal.SIGKILL)
            killed.set()

    async def restart() -> Service:
        await killed.wait()
        flags = ("--listen", first.address)
        return await asyncio.to_thread(start_store, tmp_path / "store", *flags)

    async with StoreClient(first.address) as store:
        await store.register_base_model(wide)
        restarted = asyncio.create_task(restart())
        version = await store.push(directory, "acme/a", progress=kill_midway)
        with await restarted:
            assert version.state is VersionState.ACTIVE
            sent = (directory / "adapter_model.safetensors").read_bytes()
            kept = b"".join([chunk async for chunk in store.read("acme/a@1", "adapter_model.safetensors")])
            assert kept == sent
    first.process.stdout.close()


async def test_garbage_leases_and_imports(tmp_path):
    make_adapter(tmp_path / "importable" / "a")
    seen = []
    with start_store(tmp_path / "store", "--import-dir", str(tmp_path / "importable")) as service:
        async with connected(service) as store:
            version = await store.import_version("a", "acme/a", labels={"x": "y"}, progress=seen.append)
            assert (version.state, version.labels) == (VersionState.ACTIVE, {"x": "y"})
            assert seen[-1].sent_bytes == seen[-1].size_bytes
            with pytest.raises(MultiloraError) as caught:
                await store.import_version("a", "acme/a", signature=Signature("stranger", bytes(64)))
            assert (caught.value.reason, "'stranger'" in str(caught.value)) == ("BAD_SIGNATURE", True)
            with pytest.raises(MultiloraError) as caught:
                await store.import_version("b", "acme/a")
            assert caught.value.reason == "SOURCE_NOT_FOUND"
            lease = await store.acquire_lease("serve-1", [version.key], holder="test", ttl_s=30)
            assert (lease.num_keys, lease.holder) == (1, "test")
            await store.release_lease("serve-1")
            assert (await store.collect_garbage(dry_run=True, min_age_s=0)).freed_blobs == 0
