"""`make smoke`: upload, alias, stream, roll over and a killed replica, on the stack that `make up` started.

Everything goes through Envoy, as calls of clients do. Ends with 1 at the first thing that is wrong.
"""

import asyncio
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from client import Credentials, Delta, InferenceClient, MultiloraError, SamplingParams, StoreClient

ROOT = Path(__file__).resolve().parents[1]
SERVER, STORE = "127.0.0.1:7000", "127.0.0.1:7001"
TOKEN = Credentials(token_file=ROOT / "deploy" / "secrets" / "operator.token")
ADAPTERS = ("reverse", "upper", "spell", "sort", "twice", "vowels")
GREEDY = SamplingParams(temperature=0.0, max_tokens=24)
NUM_STREAMS = 16
KILL_AFTER_S, GO_ON_S = 1.0, 8.0
BACK_WITHIN_S = 180.0


class SmokeError(Exception):
    """Something was not as it has to be."""


class Traffic:
    """Endless requests over several adapters, and how they ended."""

    def __init__(self, client: InferenceClient, names: list[str]) -> None:
        self._client = client
        self._names = names
        self.is_wanted = True
        self.finished = 0
        self.broken_streams = 0
        self.failed: list[str] = []

    async def run(self, index: int) -> None:
        """One request after the other, each for the next adapter."""
        while self.is_wanted:
            index += 1
            await self._request(self._names[index % len(self._names)])

    async def _request(self, name: str) -> None:
        has_begun = False
        try:
            stream = self._client.generate(adapter=name, text="stone", sampling=GREEDY, timeout_s=30.0)
            async for event in stream:
                has_begun = has_begun or isinstance(event, Delta)
            self.finished += 1
        except MultiloraError as error:
            if has_begun:
                self.broken_streams += 1
            else:
                self.failed.append(str(error))


async def main() -> None:
    """The steps in their order."""
    run = secrets.token_hex(3)
    async with open_clients() as (store, client):
        model = await client.wait_until_ready(timeout_s=60.0)
        name = f"smoke/roll-{run}"
        await roll_over(store, client, name, model.base_model)
        names = [f"smoke/{directory}-{run}" for directory in ADAPTERS]
        for full, directory in zip(names, ADAPTERS, strict=True):
            await publish(store, directory, full, model.base_model)
        await kill_a_replica(client, names)
        for each in (name, *names):
            await store.delete_adapter(each)
    print("smoke: all is well")


@asynccontextmanager
async def open_clients() -> AsyncIterator[tuple[StoreClient, InferenceClient]]:
    """Both services, through Envoy."""
    async with StoreClient(STORE, TOKEN) as store, InferenceClient(SERVER, TOKEN) as client:
        yield store, client


async def publish(store: StoreClient, directory: str, name: str, base_model: str) -> None:
    """The next version of `name`, in production at once."""
    await store.push(ROOT / "demo" / "adapters" / directory, name, base_model=base_model, alias="production")


async def roll_over(store: StoreClient, client: InferenceClient, name: str, base_model: str) -> None:
    """Uploads two versions and moves the alias from one to the other."""
    await publish(store, "reverse", name, base_model)
    await expect(client, name, 1, "enots")
    version = await store.push(ROOT / "demo" / "adapters" / "upper", name, base_model=base_model)
    await expect(client, name, 1, "enots")
    await store.set_alias(f"{name}@production", version.version, expected_version=1)
    moved_s = time.monotonic()
    while (await generate(client, name))[0] != version.version:
        if time.monotonic() - moved_s > 5.0:
            raise SmokeError("5 s after its alias moved, the old version still answers")
    await expect(client, name, version.version, "STONE")
    print(f"smoke: uploaded, streamed, rolled over in {time.monotonic() - moved_s:.2f} s")


async def generate(client: InferenceClient, name: str) -> tuple[int, str]:
    """The version that answered, and its text."""
    result = await client.generate(adapter=name, text="stone", sampling=GREEDY, timeout_s=30.0).result()
    return int(result.started.adapter_version.rpartition("/")[2]), result.text


async def expect(client: InferenceClient, name: str, version: int, text: str) -> None:
    """Raises SmokeError unless `name` answers so."""
    answer = await generate(client, name)
    if answer != (version, text):
        raise SmokeError(f"{name} answered {answer}, not {(version, text)}")


async def kill_a_replica(client: InferenceClient, names: list[str]) -> None:
    """SIGKILL for one inference container under load; then it comes back."""
    traffic = Traffic(client, names)
    tasks = [asyncio.create_task(traffic.run(index)) for index in range(NUM_STREAMS)]
    await asyncio.sleep(KILL_AFTER_S)
    container = compose("ps", "--quiet", "inference").split()[0]
    await asyncio.to_thread(docker, "kill", container)
    before = traffic.finished
    await asyncio.sleep(GO_ON_S)
    traffic.is_wanted = False
    await asyncio.gather(*tasks)
    print(
        f"smoke: killed a replica: {traffic.finished} requests finished ({traffic.finished - before} after "
        f"the kill), {traffic.broken_streams} streams broke, {len(traffic.failed)} requests failed"
    )
    if traffic.failed:
        raise SmokeError(f"a request failed that had not started streaming: {traffic.failed[0]}")
    if traffic.finished == before:
        raise SmokeError("nothing was answered after the kill")
    await asyncio.to_thread(docker, "start", container)
    await until_healthy(container)


async def until_healthy(container: str) -> None:
    """Raises SmokeError if `container` does not get healthy in a minute."""
    started_s = time.monotonic()
    while docker("inspect", "--format", "{{.State.Health.Status}}", container).strip() != "healthy":
        if time.monotonic() - started_s > BACK_WITHIN_S:
            raise SmokeError(f"the killed replica did not come back in {BACK_WITHIN_S:.0f} s")
        await asyncio.sleep(0.5)
    print(f"smoke: the replica is back after {time.monotonic() - started_s:.0f} s")


def compose(*arguments: str) -> str:
    """What `docker compose` prints."""
    return docker("compose", *arguments)


def docker(*arguments: str) -> str:
    """What `docker` prints."""
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True, cwd=ROOT).stdout


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except (SmokeError, MultiloraError) as error:
        print(f"smoke: {error}", file=sys.stderr)
        sys.exit(1)
