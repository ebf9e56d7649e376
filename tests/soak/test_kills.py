"""kill -9 of every part at random moments through uploads, alias moves, reads and streams.

What was acknowledged stays, what was not is resumable or absent, and no ACTIVE version has wrong bytes.
"""

import asyncio
import contextlib
import hashlib
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from client import InferenceClient, MultiloraError, SamplingParams, StoreClient
from demo.stack import MODEL
from tests.postgres_server import PostgresServer
from tests.s3_server import S3Server
from tests.soak.parts import Part, ServicePart
from tests.soak.random_adapter import write_adapter

# Each is an upload, an alias move, a read and a stream.
ROUNDS = 200
NUM_WORKERS = 4
# What a part that is gone, or comes back, may answer. Anything else is a defect.
GONE = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"}
RETRY_PAUSE_S = 0.1
UP_S = (0.05, 0.8)
DOWN_S = (0.02, 0.3)

pytestmark = pytest.mark.soak


@dataclass
class Deployment:
    """Two replicas of the store on one PostgreSQL and one S3 server, and an inference server."""

    parts: dict[str, Part]
    stores: list[ServicePart]
    inference: ServicePart
    check_command: list[str]
    environ: dict[str, str]


@dataclass
class Ledger:
    """What was acknowledged, by adapter: versions with their files' digests, and where the alias points."""

    versions: dict[str, dict[int, dict[str, str]]] = field(default_factory=dict)
    aliases: dict[str, int] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)


@pytest.fixture
def deployment(tmp_path: Path):
    with ExitStack() as stack:
        postgres = PostgresServer(durable=True)
        stack.callback(postgres.close)
        s3 = stack.enter_context(S3Server(tmp_path / "s3"))
        place = ["--database-url", postgres.new_database(), "--blob-url", s3.url("kills")]
        environ = {**s3.environ}
        migrate = [sys.executable, "-m", "services.adapter_store", "migrate", *place[:2]]
        subprocess.run(migrate, check=True, capture_output=True)
        stores = []
        for number in (1, 2):
            flags = [*place, "--data-dir", str(tmp_path / f"store{number}")]
            store = ServicePart("services.adapter_store", tmp_path / f"store{number}.log", flags, environ)
            stack.callback(store.stop)
            store.start()
            stores.append(store)
        flags = ["--model", str(MODEL), "--base-model", "demo/model", "--store", stores[0].address]
        flags += ["--threads", "1", "--cache-dir", str(tmp_path / "cache")]
        inference = ServicePart("services.inference", tmp_path / "serve.log", flags)
        stack.callback(inference.stop)
        inference.start()
        parts = {"store1": stores[0], "store2": stores[1], "inference": inference}
        check = [sys.executable, "-m", "services.adapter_store", "check", *place]
        check += ["--data-dir", str(tmp_path / "store1")]
        yield Deployment({**parts, "postgres": postgres, "s3": s3}, stores, inference, check, environ)


async def persistently(operation, ledger: Ledger):
    """Calls `operation` until it answers, through whatever is killed meanwhile."""
    while True:
        try:
            return await operation()
        except MultiloraError as error:
            ledger.errors[f"{error.code} {error.reason}"] += 1
            if error.code not in GONE:
                raise AssertionError("a part that is gone answers otherwise") from error
        await asyncio.sleep(RETRY_PAUSE_S)


class Worker:
    """One client with an adapter of its own, so that it knows what each answer must be."""

    def __init__(self, number: int, deployment: Deployment, ledger: Ledger, directory: Path) -> None:
        self.name = f"acme/a{number}"
        self._random = Random(number)
        self._number = number
        self._deployment = deployment
        self._ledger = ledger
        self._directory = directory
        ledger.versions[self.name] = {}

    async def run(self, num_rounds: int, killed: Counter[str]) -> None:
        """`num_rounds` rounds, and more until every part has been killed."""
        done = 0
        while done < num_rounds or len(killed) < len(self._deployment.parts):
            await self._push()
            operations = [self._move_alias, self._read, self._generate]
            self._random.shuffle(operations)
            for operation in operations:
                await operation()
            done += 1

    async def _push(self) -> None:
        version = len(self._ledger.versions[self.name]) + 1
        source = write_adapter(self._directory / f"v{version}", seed=self._number * 1000 + version)

        async def push():
            async with self._store() as store:
                return await store.push(source, self.name, request_id=f"push-{version}")

        pushed = await persistently(push, self._ledger)
        assert pushed.version == version, "an acknowledged or resumed push left a gap"
        files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in source.iterdir()}
        self._ledger.versions[self.name][version] = files

    async def _move_alias(self) -> None:
        version = self._random.choice(list(self._ledger.versions[self.name]))

        async def move():
            async with self._store() as store:
                return await store.set_alias(f"{self.name}@production", version)

        assert (await persistently(move, self._ledger)).version == version
        self._ledger.aliases[self.name] = version

    async def _read(self) -> None:
        version, files = self._random.choice(list(self._ledger.versions[self.name].items()))
        for path, digest in files.items():

            async def read(path=path):
                async with self._store() as store:
                    chunks = [chunk async for chunk in store.read(f"{self.name}@{version}", path)]
                    return b"".join(chunks)

            data = await persistently(read, self._ledger)
            assert hashlib.sha256(data).hexdigest() == digest, f"{self.name}@{version} {path}"

    async def _generate(self) -> None:
        version = self._random.choice(list(self._ledger.versions[self.name]))

        async def generate():
            async with InferenceClient(self._deployment.inference.address) as client:
                sampling = SamplingParams(temperature=0.0, max_tokens=4, ignore_eos=True)
                stream = client.generate(
                    adapter=f"{self.name}@{version}", text="stone", sampling=sampling, timeout_s=60.0
                )
                return [event async for event in stream]

        events = await persistently(generate, self._ledger)
        assert events[0].adapter_version.endswith(f"/versions/{version}")

    def _store(self) -> StoreClient:
        return StoreClient(self._random.choice(self._deployment.stores).address)


async def kill_parts(
    deployment: Deployment, done: asyncio.Event, random: Random, killed: Counter[str]
) -> None:
    """Kills one part after another at random moments, and starts it again, until `done`."""
    # An inference server takes seconds to come back: it dies less often.
    names = [name for name in deployment.parts for _ in range(1 if name == "inference" else 3)]
    while not done.is_set():
        random.shuffle(names)
        for name in names:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(done.wait(), random.uniform(*UP_S))
            if done.is_set():
                return
            await asyncio.to_thread(deployment.parts[name].kill)
            killed[name] += 1
            await asyncio.sleep(random.uniform(*DOWN_S))
            await asyncio.to_thread(deployment.parts[name].start)


async def check_ledger(deployment: Deployment, ledger: Ledger) -> None:
    async with StoreClient(deployment.stores[1].address) as store:
        for name, versions in ledger.versions.items():
            known = {version.version: version for version in await store.list_versions(name)}
            assert sorted(known) == list(range(1, len(known) + 1)), "version numbers have a gap"
            for number, files in versions.items():
                assert known[number].state == "ACTIVE"
                assert {file.path: file.sha256 for file in known[number].files} == files
                for path, digest in files.items():
                    chunks = [chunk async for chunk in store.read(f"{name}@{number}", path)]
                    assert hashlib.sha256(b"".join(chunks)).hexdigest() == digest
            if name in ledger.aliases:
                adapter = await store.get_adapter(name)
                assert [alias.version for alias in adapter.aliases] == [ledger.aliases[name]]


async def test_nothing_acknowledged_is_lost(deployment: Deployment, tmp_path: Path, rounds):
    ledger, done, killed = Ledger(), asyncio.Event(), Counter()
    killer = asyncio.create_task(kill_parts(deployment, done, Random(11), killed))
    workers = [Worker(n, deployment, ledger, tmp_path / f"a{n}") for n in range(NUM_WORKERS)]
    num_rounds = rounds(ROUNDS, least=20) // NUM_WORKERS
    try:
        async with asyncio.TaskGroup() as group:
            for worker in workers:
                group.create_task(worker.run(num_rounds, killed))
    finally:
        done.set()
        await killer
    num_uploads = sum(len(versions) for versions in ledger.versions.values())
    print(f"\n{num_uploads} uploads, killed {dict(killed)}, answered {dict(ledger.errors)}")
    await check_ledger(deployment, ledger)
    for store in deployment.stores:
        assert store.stop() == 0
    checked = await asyncio.to_thread(
        subprocess.run,
        deployment.check_command,
        capture_output=True,
        text=True,
        env=deployment.stores[0]._environ,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
