"""Aliases move, split, break and are deleted under live traffic, through both real services."""

import asyncio
import contextlib
import itertools
import time

import pytest

from client import InferenceClient, MultiloraError, SamplingParams, Shadow, StoreClient, TrafficTarget
from demo.stack import ADAPTERS, MODEL
from services.common.traffic_split import choose_target
from tests.e2e.processes import running_services, start_inference, start_store, wait_idle

pytestmark = pytest.mark.timeout(180)

WORDS = ("stone", "river", "cloud", "amber")
GREEDY = SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True)
NUM_STREAMS, NUM_MOVES = 64, 200


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    with running_services(tmp_path_factory.mktemp("services"), MODEL) as services:
        yield services


@pytest.fixture
async def client(services):
    async with InferenceClient(services.inference.address) as client:
        yield client
    await wait_idle(services.inference.address)


@pytest.fixture
async def store(services):
    async with StoreClient(services.store.address) as store:
        yield store


async def publish(store, name, *directories, alias="production"):
    """Versions 1, 2, ... of one adapter; the alias at the first."""
    for directory in directories:
        await store.push(ADAPTERS / directory, name)
    await store.set_alias(f"{name}@{alias}", 1)


async def references(client, name, num_versions):
    """What each version says to each word, by full version name."""
    found = {}
    for number in range(1, num_versions + 1):
        for word in WORDS:
            result = await client.generate(adapter=f"{name}@{number}", text=word, sampling=GREEDY).result()
            found[result.started.adapter_version, word] = result.token_ids
    assert len(set(found.values())) == len(found), "the versions were to answer differently"
    return found


async def hears_everything(client):
    while not (stats := await client.get_stats()).store.connected:
        pass
    return stats


async def test_every_stream_is_exactly_one_version_s_while_its_alias_moves(client, store):
    await publish(store, "acme/roll", "reverse", "upper")
    expected = await references(client, "acme/roll", 2)
    await hears_everything(client)
    versions, moving, ended = [], True, asyncio.Event()

    async def stream_on(index):
        for number in itertools.count(index):
            if not moving:
                return
            word = WORDS[number % len(WORDS)]
            result = await client.generate(adapter="acme/roll", text=word, sampling=GREEDY).result()
            assert result.token_ids == expected[result.started.adapter_version, word]
            versions.append(result.started.adapter_version)
            ended.set()

    async def move():
        nonlocal moving
        at = 1
        for _ in range(NUM_MOVES):
            ended.clear()
            await store.set_alias("acme/roll@production", 3 - at, expected_version=at)
            at = 3 - at
            await ended.wait()
        moving = False

    before = await client.get_stats()
    await asyncio.gather(move(), *(stream_on(index) for index in range(NUM_STREAMS)))
    after = await client.get_stats()
    assert {version.rpartition("/")[2] for version in versions} == {"1", "2"}
    assert len(versions) >= NUM_MOVES
    assert after.requests.failed == before.requests.failed
    assert after.store.changes_seen - before.store.changes_seen == NUM_MOVES
    assert after.store.stale_resolves == 0
    assert after.store.resolve_hits > before.store.resolve_hits


async def test_a_moved_alias_and_a_disabled_version_take_effect_within_a_second(client, store):
    await publish(store, "acme/quick", "reverse", "upper")
    await hears_everything(client)

    async def until(condition):
        """Seconds until a request is sent that is answered so."""
        started_s = sent_s = time.monotonic()
        while not await condition():
            sent_s = time.monotonic()
            assert sent_s - started_s < 1.0
        return sent_s - started_s

    async def answers(version):
        stream = client.generate(adapter="acme/quick", text="stone", sampling=GREEDY)
        return (await stream.result()).started.adapter_version.endswith(f"/{version}")

    async def is_refused():
        with contextlib.suppress(MultiloraError):
            await client.generate(adapter="acme/quick", text="stone", sampling=GREEDY).result()
            return False
        return True

    took = []
    for version in (2, 1) * 5:
        await store.set_alias("acme/quick@production", version)
        took.append(await until(lambda version=version: answers(version)))
    assert await answers(1)
    await store.disable_version("acme/quick@1")
    took.append(await until(is_refused))
    await store.enable_version("acme/quick@1")
    took.append(await until(lambda: answers(1)))
    await store.delete_adapter("acme/quick")
    took.append(await until(is_refused))
    print("in effect after", sorted(round(s * 1e3) for s in took), "ms")


async def test_a_split_keeps_each_key_on_its_version(client, store):
    await publish(store, "acme/split", "reverse", "upper")
    weights = ((1, 70), (2, 30))
    await store.set_alias(
        "acme/split@production", targets=[TrafficTarget(version, weight) for version, weight in weights]
    )
    expected = await references(client, "acme/split", 2)
    keys = [f"user-{i}" for i in range(40)]

    async def generate(key, **fields):
        result = await client.generate(adapter="acme/split", text="stone", sampling=GREEDY, **fields).result()
        version = choose_target("tenants/acme/adapters/split", key, weights)
        assert result.started.adapter_version == f"tenants/acme/adapters/split/versions/{version}"
        assert result.token_ids == expected[result.started.adapter_version, "stone"]
        return version

    by_key = await asyncio.gather(*(generate(key, split_key=key, request_id="same") for key in keys))
    assert by_key == await asyncio.gather(*(generate(key, request_id=key) for key in keys))
    assert set(by_key) == {1, 2}
    with pytest.raises(MultiloraError) as raised:
        await client.load_adapter("acme/split")
    assert "versions 1, 2" in raised.value.message


async def test_a_shadow_s_tokens_are_compared_and_never_seen(client, store):
    await publish(store, "acme/shadowed", "reverse", "upper", "reverse")
    before = (await client.get_stats()).shadow
    for shadow, diverges in ((2, True), (3, False)):
        await store.set_alias("acme/shadowed@production", 1, shadow=Shadow(shadow, 1.0))
        await hears_everything(client)
        result = await client.generate(adapter="acme/shadowed@production", text="stone").result()
        assert result.started.adapter_version.endswith("/1")
        while (after := (await client.get_stats()).shadow).finished == before.finished:
            assert after.failed == before.failed
        assert after.diverged - before.diverged == diverges
        assert after.compared_tokens > before.compared_tokens
        assert after.shadow_s > before.shadow_s
        before = after


async def test_through_an_outage_it_goes_on_with_what_it_knows_and_hears_what_it_missed(tmp_path):
    with (
        start_store(tmp_path / "store") as first,
        start_inference(MODEL, first.address, tmp_path / "serve.log") as inference,
    ):
        async with StoreClient(first.address) as store:
            await publish(store, "acme/out", "reverse", "upper")
            await store.push(ADAPTERS / "dash", "acme/other")
            async with InferenceClient(inference.address) as client:

                async def version(name="acme/out"):
                    stream = client.generate(adapter=name, text="stone", sampling=GREEDY)
                    return (await stream.result()).started.adapter_version.rpartition("/")[2]

                await hears_everything(client)
                assert (await version(), await version("acme/other")) == ("1", "1")
                first.stop()
                while (await client.get_stats()).store.connected:
                    pass
                assert await version() == "1"
                during = (await client.get_stats()).store
                assert during.stale_resolves == 1
                assert during.disconnected_s > 0
                with start_store(tmp_path / "store", "--listen", first.address):
                    async with StoreClient(first.address) as again:
                        while True:
                            with contextlib.suppress(MultiloraError):
                                await again.set_alias("acme/out@production", 2)
                                break
                    heard = (await hears_everything(client)).store
                    assert await version() == "2"
                    assert await version("acme/other") == "1"
                    after = (await client.get_stats()).store
                    assert after.resolve_calls == heard.resolve_calls + 1, "the other name was remembered"
                    assert after.changes_seen > during.changes_seen
        await wait_idle(inference.address)
