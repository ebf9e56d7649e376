"""Envoy over three inference replicas: an adapter has its replica, and no replica's end fails a request."""

import asyncio
import signal
from contextlib import ExitStack

import pytest

from client import InferenceClient, SamplingParams, StoreClient
from demo.stack import ADAPTERS, MODEL
from tests.e2e.processes import start_inference, start_store
from tests.integration.envoy.gateway import Gateway, envoy_program
from tests.integration.envoy.traffic import Traffic

pytestmark = pytest.mark.timeout(300)

NUM_REPLICAS = 3
NUM_STREAMS = 12
NAMES = tuple(f"acme/{path.name}" for path in sorted(ADAPTERS.iterdir()))
SHORT = SamplingParams(temperature=0.0, max_tokens=4, ignore_eos=True)


class Stack:
    """The store, the replicas that were started, and Envoy in front."""

    def __init__(self, store, replicas, gateway):
        self.store = store
        self.replicas = replicas
        self.gateway = gateway
        self.server = gateway.addresses["inference"]

    async def homes(self):
        """The replicas that hold each adapter, by its short name."""
        found = {}
        for number, replica in enumerate(self.replicas):
            if replica.process.poll() is None:
                async with InferenceClient(replica.address) as client:
                    for each in await client.list_resident_adapters():
                        _, tenant, _, adapter, *_ = each.adapter_version.split("/")
                        found.setdefault(f"{tenant}/{adapter}", set()).add(number)
        return found


@pytest.fixture
async def stack(tmp_path):
    envoy_program()
    with ExitStack() as running:
        store = running.enter_context(start_store(tmp_path / "store"))
        replicas = [
            running.enter_context(start_inference(MODEL, store.address, tmp_path / f"serve-{number}.log"))
            for number in range(NUM_REPLICAS)
        ]
        backends = {"store": [store.address], "inference": [each.address for each in replicas]}
        gateway = running.enter_context(Gateway(tmp_path, backends))
        gateway.wait_healthy("inference", NUM_REPLICAS)
        gateway.wait_healthy("store", 1)
        async with StoreClient(gateway.addresses["store"]) as client:
            for name in NAMES:
                await client.push(ADAPTERS / name.partition("/")[2], name, alias="production")
        yield Stack(store, replicas, gateway)


async def ask_all(client):
    for name in NAMES:
        await client.generate(adapter=name, text="stone", sampling=SHORT).result()


async def end_a_replica_under_load(stack, client, number):
    """Ends the replica that the first adapter has, by signal `number`; how the requests went."""
    await ask_all(client)
    before = await stack.homes()
    (doomed,) = before[NAMES[0]]
    traffic = Traffic(client, NAMES)
    tasks = [asyncio.create_task(traffic.run(index)) for index in range(NUM_STREAMS)]
    await traffic.until_finished(2 * NUM_STREAMS)
    stack.replicas[doomed].process.send_signal(number)
    await asyncio.to_thread(stack.replicas[doomed].process.wait)
    await traffic.until_finished(traffic.num_finished + 3 * NUM_STREAMS)
    traffic.stop()
    await asyncio.gather(*tasks)
    await asyncio.to_thread(stack.gateway.wait_healthy, "inference", NUM_REPLICAS - 1)
    return doomed, before, traffic


async def test_an_adapter_stays_on_its_replica(stack):
    async with InferenceClient(stack.server) as client:
        for form in ("{}", "{}@production", "{}@1"):
            for name in NAMES:
                stream = client.generate(adapter=form.format(name), text="stone", sampling=SHORT)
                await stream.result()
        await client.load_adapter(NAMES[0])
        homes = await stack.homes()
    assert set(homes) == set(NAMES)
    # Requests come one at a time, so no replica has twice its share and passes one on; and the ring has every
    # replica from the moment that it is healthy.
    assert {len(replicas) for replicas in homes.values()} == {1}, homes
    assert len({number for replicas in homes.values() for number in replicas}) > 1, homes


async def test_a_killed_replica_s_adapters_move_and_nothing_fails_that_had_not_begun(stack):
    async with InferenceClient(stack.server) as client:
        doomed, before, traffic = await end_a_replica_under_load(stack, client, signal.SIGKILL)
        assert not traffic.refusals
        assert len(traffic.broken) <= NUM_STREAMS
        await ask_all(client)
        homes = await stack.homes()
    for name in NAMES:
        assert homes[name] - {doomed}, "it is answered by another"
        assert before[name] - {doomed} <= homes[name], "the others' adapters have not moved"


@pytest.mark.soak
async def test_a_replica_that_drains_breaks_no_stream(stack):
    async with InferenceClient(stack.server) as client:
        _, _, traffic = await end_a_replica_under_load(stack, client, signal.SIGTERM)
    assert not traffic.refusals
    assert not traffic.broken
