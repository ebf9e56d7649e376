"""Real services: signatures hold against a store whose rows were altered, and leases against collection."""

import asyncio
import contextlib
import sqlite3
from base64 import b64encode

import pytest

from client import InferenceClient, MultiloraError, SamplingParams, StoreClient
from client.access import TrustedKey
from client.bench.random_adapters import write_random_adapter
from client.serving import Residency
from client.signing import generate_key, read_key
from tests.e2e.processes import start_inference, start_store
from tests.tiny_models import build_model

NAME = "acme/support"


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("models") / "tiny"
    build_model(directory)
    return directory


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "ci.pem"
    generate_key(path)
    return read_key(path, "ci")


@pytest.fixture
def store(tmp_path):
    with start_store(tmp_path / "store") as store:
        yield store


async def push(store, tmp_path, seed=0, name=NAME, **more):
    async with StoreClient(store.address) as client:
        (base,) = await client.list_base_models()
        directory = tmp_path / f"adapter-{seed}"
        directory.mkdir(exist_ok=True)
        write_random_adapter(directory, base, rank=4, seed=seed)
        return await client.push(directory, name, **more)


async def generate(inference, name=NAME):
    async with InferenceClient(inference.address) as client:
        sampling = SamplingParams(max_tokens=2, temperature=0, ignore_eos=True)
        async with client.generate(adapter=name, token_ids=[1, 2, 3], sampling=sampling) as stream:
            return (await stream.result()).token_ids


async def refused(inference, name=NAME):
    """Why nothing is served; not a token comes before it."""
    with pytest.raises(MultiloraError) as caught:
        await generate(inference, name)
    return caught.value


async def trust(store, keys, require):
    async with StoreClient(store.address) as client:
        await client.update_tenant("acme", trusted_keys=keys, require_signatures=require)


def alter(tmp_path, statement, *values):
    """What somebody who has the database, and no key, may do."""
    with sqlite3.connect(tmp_path / "store" / "store.sqlite3", timeout=30) as database:
        assert database.execute(statement, values).rowcount > 0
    database.close()


async def test_pinned_keys_hold_against_a_store_whose_rows_are_altered(store, model_dir, key, tmp_path):
    pins = tmp_path / "pins"
    pins.write_text(f"acme ci {key.public_key.hex()}\n")
    flags = ("--trusted-keys-file", str(pins))
    with start_inference(model_dir, store.address, tmp_path / "serve.log", *flags) as inference:
        await trust(store, [TrustedKey("ci", key.public_key)], require=True)
        await push(store, tmp_path, signing_key=key)
        assert len(await generate(inference)) == 2
        with pytest.raises(MultiloraError) as caught:
            await push(store, tmp_path, seed=1)
        assert caught.value.reason == "BAD_SIGNATURE"
        await trust(store, [], require=False)
        await push(store, tmp_path, seed=1)
        for name, words in ((NAME, "is not signed"), (f"{NAME}@2", "is not signed")):
            error = await refused(inference, name)
            assert (error.reason, words in error.message) == ("BAD_SIGNATURE", True)
        assert len(await generate(inference, f"{NAME}@1")) == 2
        signature = "SELECT signature FROM versions WHERE version = 1"
        alter(
            tmp_path,
            f"UPDATE versions SET signature_key_id = 'ci', signature = ({signature}) WHERE version = 2",
        )
        async with StoreClient(store.address) as client:
            await client.disable_version(f"{NAME}@2")  # so that it is asked for again
            await client.enable_version(f"{NAME}@2")
        error = await refused(inference, f"{NAME}@2")
        assert (error.reason, "does not have the files" in error.message) == ("BAD_SIGNATURE", True)


async def test_the_tenants_own_rules_hold_and_a_key_that_is_taken_back_ends_them(
    store, model_dir, key, tmp_path
):
    with start_inference(model_dir, store.address, tmp_path / "serve.log") as inference:
        await push(store, tmp_path, signing_key=None)
        assert len(await generate(inference)) == 2
        await trust(store, [TrustedKey("ci", key.public_key)], require=True)
        assert (await until_refused(inference)).startswith("BAD_SIGNATURE: ")
        await push(store, tmp_path, seed=1, signing_key=key)
        assert len(await generate(inference, f"{NAME}@2")) == 2
        await trust(store, [], require=False)
        assert "'ci', which is not trusted" in await until_refused(inference, f"{NAME}@2")
        await trust(store, [TrustedKey("ci", key.public_key)], require=False)
        alter(
            tmp_path,
            "UPDATE versions SET signature = ? WHERE version = 2",
            b64encode(bytes(64)).decode(),
        )
        async with StoreClient(store.address) as client:
            await client.disable_version(f"{NAME}@2")
            await client.enable_version(f"{NAME}@2")
        assert "does not have the files" in await until_refused(inference, f"{NAME}@2", "does not have")


async def until_refused(inference, name=NAME, words=""):
    """The words, once the change has been heard, which takes no more than a second or so."""
    async with asyncio.timeout(20):
        while True:
            try:
                await generate(inference, name)
            except MultiloraError as error:
                if words in error.message:
                    return f"{error.reason}: {error.message}"


async def test_what_a_server_holds_outlives_its_version_until_the_server_is_gone(store, model_dir, tmp_path):
    async with StoreClient(store.address) as client:
        with start_inference(model_dir, store.address, tmp_path / "serve.log") as inference:
            version = await push(store, tmp_path)
            async with InferenceClient(inference.address) as serving:
                await serving.load_adapter(NAME, tier=Residency.HOST)
            await until_leased(tmp_path, version.key)
            await client.delete_version(f"{NAME}@1")
            # Longer ago than a deleted version keeps its files by itself.
            await asyncio.to_thread(age_deletions, tmp_path, 3600)
            assert (await client.collect_garbage(min_age_s=0)).freed_blobs == 0
            assert inference.stop() == 0
        assert leased(tmp_path) == set()
        found = await client.collect_garbage(min_age_s=0)
        assert (found.freed_blobs, found.freed_bytes) == (2, version.size_bytes)


def age_deletions(tmp_path, age_s):
    database = sqlite3.connect(tmp_path / "store" / "store.sqlite3", timeout=30)
    with contextlib.closing(database), database:
        database.execute("UPDATE versions SET delete_time_us = delete_time_us - ?", (age_s * 1_000_000,))


def leased(tmp_path):
    database = sqlite3.connect(tmp_path / "store" / "store.sqlite3", timeout=30)
    try:
        return {key for (key,) in database.execute("SELECT key FROM lease_keys")}
    finally:
        database.close()


async def until_leased(tmp_path, key):
    async with asyncio.timeout(20):
        while key not in await asyncio.to_thread(leased, tmp_path):
            pass
