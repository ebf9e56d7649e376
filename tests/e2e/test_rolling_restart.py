"""Behind Envoy and under load, every server restarted one after the other, and an engine killed."""

import asyncio
import itertools
import os
import signal
import socket
import uuid
from contextlib import ExitStack, aclosing

import psycopg
import pytest

from client import InferenceClient, StoreClient
from demo.stack import ADAPTERS, MODEL
from tests.e2e.processes import engine_of, start_inference, start_store
from tests.integration.envoy.gateway import Gateway, envoy_program
from tests.integration.envoy.traffic import Traffic

pytestmark = pytest.mark.timeout(300)

NUM_REPLICAS = 2
NAMES = tuple(f"acme/{path.name}" for path in sorted(ADAPTERS.iterdir()))
PUSHED = "acme/pushed"


def free_address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


class Cluster:
    """Two stores on one database and bucket, two inference servers, and Envoy before all of them."""

    def __init__(self, running, directory, database_url, bucket_flags):
        self._running = running
        self._directory = directory
        self._store_flags = ("--database-url", database_url, *bucket_flags)
        self._database_url = database_url
        self.addresses = {
            kind: [free_address() for _ in range(NUM_REPLICAS)] for kind in ("store", "inference")
        }
        self.gateway = running.enter_context(Gateway(directory, self.addresses))
        self.server, self.store = (self.gateway.addresses[kind] for kind in ("inference", "store"))
        self._services = {}
        for kind, number in itertools.product(("store", "inference"), range(NUM_REPLICAS)):
            self._start(kind, number)
        self.wait_whole()

    def _start(self, kind, number):
        listen = ("--listen", self.addresses[kind][number])
        home = self._directory / f"{kind}-{number}"
        home.mkdir(exist_ok=True)
        if kind == "store":
            service = start_store(home / "data", *self._store_flags, *listen)
        else:
            service = start_inference(MODEL, self.store, home / "serve.log", *listen)
        self._services[kind, number] = self._running.enter_context(service)
        self.gateway.wait_healthy(kind, len([each for each, _ in self._services if each == kind]))

    def wait_whole(self):
        for kind in self.addresses:
            self.gateway.wait_healthy(kind, NUM_REPLICAS)

    def restart(self, kind, number):
        """SIGTERM, the end, the start of another at its address; the exit code of the first."""
        holder = f"{socket.gethostname()} {self.addresses[kind][number]}"
        assert (kind == "inference") == (holder in self._lease_holders())
        exit_code = self._services[kind, number].stop()
        assert holder not in self._lease_holders(), "its leases are handed back"
        self._start(kind, number)
        self.wait_whole()
        return exit_code

    def _lease_holders(self):
        with psycopg.connect(self._database_url) as database:
            return {holder for (holder,) in database.execute("SELECT holder FROM leases")}

    def kill_an_engine(self):
        os.kill(engine_of(self._services["inference", 0]), signal.SIGKILL)
        self.gateway.wait_healthy("inference", NUM_REPLICAS - 1)
        self.wait_whole()


@pytest.fixture
def cluster(postgres, migrated_postgres, s3_server, tmp_path):
    envoy_program()
    with ExitStack() as running:
        url = postgres.new_database(migrated_postgres)
        yield Cluster(running, tmp_path, url, s3_server.flags(f"rolling-{uuid.uuid4().hex[:8]}"))


class Pushes:
    """One upload after the other, each a version."""

    def __init__(self, client):
        self._client = client
        self.versions = []
        self.is_wanted = True
        self.is_over = False

    async def run(self):
        while self.is_wanted:
            await self.push()

    async def push(self):
        self.versions.append((await self._client.push(ADAPTERS / "upper", PUSHED)).version)


async def watch(client, heard, pushes):
    """The versions of PUSHED as they turn up, until they are all; nothing may be missed."""
    async with aclosing(client.watch()) as batches:
        async for batch in batches:
            assert not batch.reset or not heard
            for change in batch.changes:
                if change.kind == "VERSION_ACTIVE" and f"/{PUSHED.partition('/')[2]}/" in change.name:
                    heard.append(int(change.name.rpartition("/")[2]))
            # Batches come every few seconds, also where there is nothing to tell.
            if pushes.is_over and len(heard) >= len(pushes.versions):
                return


@pytest.mark.soak
@pytest.mark.parametrize("num_streams", [4, 32])
async def test_no_stream_breaks_and_nothing_is_refused(cluster, num_streams):
    heard, exit_codes = [], []
    async with StoreClient(cluster.store) as registry, InferenceClient(cluster.server) as client:
        for name in NAMES:
            await registry.push(ADAPTERS / name.partition("/")[2], name, alias="production")
        traffic, pushes = Traffic(client, NAMES), Pushes(registry)
        watching = asyncio.create_task(watch(registry, heard, pushes))
        tasks = [asyncio.create_task(traffic.run(index)) for index in range(num_streams)]
        tasks.append(asyncio.create_task(pushes.run()))
        for kind, number in itertools.product(("inference", "store"), range(NUM_REPLICAS)):
            await traffic.until_finished(traffic.num_finished + 2 * num_streams)
            exit_codes.append(await asyncio.to_thread(cluster.restart, kind, number))
        await traffic.until_finished(traffic.num_finished + 2 * num_streams)
        traffic.stop()
        pushes.is_wanted = False
        await asyncio.gather(*tasks)
        await pushes.push()
        pushes.is_over = True
        await watching
    print(f"{traffic.num_finished} streams, {len(pushes.versions)} uploads")
    assert not traffic.broken
    assert not traffic.refusals
    assert exit_codes == [0] * len(exit_codes)
    assert heard == pushes.versions == list(range(1, len(heard) + 1))


async def test_a_killed_engine_breaks_its_own_streams_alone_and_comes_back(cluster):
    async with StoreClient(cluster.store) as registry, InferenceClient(cluster.server) as client:
        for name in NAMES:
            await registry.push(ADAPTERS / name.partition("/")[2], name, alias="production")
        traffic = Traffic(client, NAMES)
        tasks = [asyncio.create_task(traffic.run(index)) for index in range(8)]
        await traffic.until_finished(16)
        await asyncio.to_thread(cluster.kill_an_engine)
        await traffic.until_finished(traffic.num_finished + 16)
        traffic.stop()
        await asyncio.gather(*tasks)
    assert not traffic.refusals
    assert len(traffic.broken) <= 8
    assert {(error.code, error.reason) for error in traffic.broken} <= {("UNAVAILABLE", "ENGINE_DOWN")}
