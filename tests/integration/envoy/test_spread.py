"""200 adapters by Zipf over four replicas: how often each is loaded; then one replica dies and one comes."""

import asyncio
import random
import socket
from contextlib import ExitStack

import grpc
import pytest

from client import InferenceClient, MultiloraError, SamplingParams, StoreClient
from client.bench.random_adapters import push_random_adapters
from demo.stack import MODEL
from protos.multilora.v1 import inference_pb2 as pb
from protos.multilora.v1.inference_pb2_grpc import InferenceServiceStub
from tests.e2e.processes import start_inference, start_store
from tests.integration.envoy.gateway import Gateway, envoy_program

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]

NUM_REPLICAS = 4
NUM_ADAPTERS = 200
NUM_STREAMS = 32
SHORT = SamplingParams(temperature=0.0, max_tokens=4, ignore_eos=True)


class Fleet:
    """Replicas behind Envoy; `spare` is the address of one that is started later."""

    def __init__(self, running, directory, store):
        self._running = running
        self._directory = directory
        self._store = store
        self.replicas = [self._start(number) for number in range(NUM_REPLICAS)]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.spare = f"127.0.0.1:{free.getsockname()[1]}"
        backends = {
            "store": [store.address],
            "inference": [*(each.address for each in self.replicas), self.spare],
        }
        self.gateway = running.enter_context(Gateway(directory, backends))
        self.gateway.wait_healthy("inference", NUM_REPLICAS)

    def _start(self, number, *flags):
        log = self._directory / f"serve-{number}.log"
        return self._running.enter_context(start_inference(MODEL, self._store.address, log, *flags))

    def kill_one(self):
        self.replicas[0].process.kill()
        self.replicas[0].process.wait()
        self.gateway.wait_healthy("inference", NUM_REPLICAS - 1)

    def add_one(self):
        self.replicas.append(self._start(NUM_REPLICAS, "--listen", self.spare))
        self.gateway.wait_healthy("inference", NUM_REPLICAS)

    async def num_replicas_of(self, names):
        """On how many living replicas each adapter is, of those that are anywhere."""
        found = dict.fromkeys(names, 0)
        for replica in self.replicas:
            if replica.process.poll() is None:
                async with InferenceClient(replica.address) as client:
                    for each in await client.list_resident_adapters():
                        _, tenant, _, adapter, *_ = each.adapter_version.split("/")
                        if f"{tenant}/{adapter}" in found:
                            found[f"{tenant}/{adapter}"] += 1
        return {name: number for name, number in found.items() if number}


async def drive(request, names, num_requests, seed):
    """Requests for `names`, the k-th with weight 1/k; the refusals. `request` raises MultiloraError."""
    choice = random.Random(seed)
    weights = [1 / rank for rank in range(1, len(names) + 1)]
    todo = choice.choices(names, weights, k=num_requests)
    refusals = []

    async def run():
        while todo:
            try:
                await request(todo.pop())
            except MultiloraError as error:
                refusals.append(error)

    await asyncio.gather(*(run() for _ in range(NUM_STREAMS)))
    return refusals


async def test_loads_of_an_adapter(tmp_path, rounds):
    envoy_program()
    num_requests = rounds(2000, least=400)
    with ExitStack() as running:
        store = running.enter_context(start_store(tmp_path / "store"))
        fleet = await asyncio.to_thread(Fleet, running, tmp_path, store)
        server = fleet.gateway.addresses["inference"]
        async with (
            InferenceClient(server) as client,
            grpc.aio.insecure_channel(server) as channel,
            StoreClient(store.address) as registry,
        ):
            base_model = (await registry.list_base_models())[0]
            by_name = await push_random_adapters(registry, base_model, NUM_ADAPTERS, tenant="named")
            by_chance = await push_random_adapters(registry, base_model, 2 * NUM_ADAPTERS, tenant="chance")
            by_chance = by_chance[NUM_ADAPTERS:]

            async def named(name):
                began = False
                try:
                    async for _ in client.generate(adapter=name, text="stone", sampling=SHORT):
                        began = True
                except MultiloraError:
                    if not began:
                        raise

            stub = InferenceServiceStub(channel)

            async def unnamed(name):
                request = pb.GenerateRequest(adapter=name, text="stone", sampling=SHORT.to_proto())
                async for _ in stub.Generate(request):
                    pass

            assert not await drive(named, by_name, num_requests, seed=1)
            with_header = await fleet.num_replicas_of(by_name)
            assert not await drive(unnamed, by_chance, num_requests, seed=1)
            without = await fleet.num_replicas_of(by_chance)
            means = [sum(each.values()) / len(each) for each in (with_header, without)]
            print(
                f"loads an adapter: {means[0]:.2f} by name, {means[1]:.2f} by chance; "
                f"most replicas of one: {max(with_header.values())}, {max(without.values())}"
            )
            assert means[0] <= 1.5
            assert max(with_header.values()) <= 2

            going_on = asyncio.create_task(drive(named, by_name, 2 * num_requests, seed=2))
            await asyncio.to_thread(fleet.kill_one)
            await asyncio.to_thread(fleet.add_one)
            assert not await going_on
