"""`make bench`: both services with the demo model, then a closed loop and open loops over many adapters.

Short by default; the command `multilora bench` puts any other load on any running server.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from client import InferenceClient, StoreClient
from client.bench.adapter_choice import median_rank_adapter
from client.bench.benchmark import Result, run_benchmark
from client.bench.load import Load, Loop, Popularity
from client.bench.random_adapters import push_random_adapters
from client.bench.report import table_of
from demo.__main__ import make_console, run_until_signalled
from demo.stack import BASE_MODEL, adapter_name, publish_adapters, running_stack
from demo.tasks import TASKS

# Of what the slowest row of the closed loop reaches: above its capacity a server only queues.
_OPEN_SHARE = 0.6

_OUTPUT = Path(".data/bench.json")

_PROMPT_TOKENS = (8, 33)
_OUTPUT_TOKENS = (16, 33)


async def run(console: Console, options: argparse.Namespace) -> int:
    """The whole bench; 1 if any request failed."""
    async with running_stack(console.print) as stack:
        await publish_adapters(stack, lambda line: None)
        async with InferenceClient(stack.server.address) as client, StoreClient(stack.store.address) as store:
            bench = Bench(console, client, options.repeats)
            demo = [adapter_name(task.adapter) for task in TASKS[:8]]
            one = await median_rank_adapter(store, demo)
            closed = await bench.measure(
                "8 adapters, equal lengths", equal_lengths(options.seconds), demo, one
            )
            rate = _OPEN_SHARE * min(row.requests_per_s for row in closed.rows)
            base_model = await store.get_base_model(BASE_MODEL)
            many = await push_random_adapters(store, base_model, options.random)
            one_random = await median_rank_adapter(store, many)
            for title, load in open_loads(rate, options.seconds):
                await bench.measure(title, load, many, one_random)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(bench.to_json(), indent=2) + "\n")
    console.print(f"written: {options.output}")
    return 1 if bench.num_errors else 0


def equal_lengths(seconds: float) -> Load:
    """8 streams at a time, all of the same length: what mixing adapters costs and nothing else."""
    return Load(
        num_requests=max(16, round(16 * seconds)),
        concurrency=8,
        prompt_tokens=(16, 17),
        output_tokens=(32, 33),
    )


def open_loads(rate_per_s: float, seconds: float) -> list[tuple[str, Load]]:
    """Arrivals by chance over many adapters of mixed ranks."""

    def load(cv: float, popularity: Popularity, skew: float) -> Load:
        return Load(
            loop=Loop.open,
            rate_per_s=rate_per_s,
            duration_s=seconds,
            cv=cv,
            popularity=popularity,
            skew=skew,
            prompt_tokens=_PROMPT_TOKENS,
            output_tokens=_OUTPUT_TOKENS,
        )

    return [
        ("Poisson arrivals, Zipf popularity", load(1.0, Popularity.zipf, 1.0)),
        ("bursts (gamma, cv 2), S-LoRA's power law", load(2.0, Popularity.power, 0.3)),
    ]


class Bench:
    """Runs loads one after another, prints each table, keeps the results."""

    def __init__(self, console: Console, client: InferenceClient, repeats: int) -> None:
        self._console = console
        self._client = client
        self._repeats = repeats
        self._results: list[tuple[str, Result]] = []

    @property
    def num_errors(self) -> int:
        """Requests that failed in all loads together."""
        return sum(row.num_errors for _, result in self._results for row in result.rows)

    async def measure(self, title: str, load: Load, adapters: Sequence[str], one_adapter: str) -> Result:
        """One load, its table printed."""
        with self._console.status(f"{title}: no adapter, one, many, {self._repeats} times in turn"):
            result = await run_benchmark(
                self._client, load, adapters, one_adapter=one_adapter, repeats=self._repeats
            )
        self._results.append((title, result))
        shape = (
            f"closed loop, {load.concurrency} at a time"
            if load.loop is Loop.closed
            else f"open loop, {load.rate_per_s:.1f} requests a second"
        )
        self._console.print(table_of(f"\n{title} ({shape})", result.rows))
        for row in result.rows:
            if row.num_errors:
                self._console.print(f"{row.name}: {row.num_errors} failed, first: {row.first_error}")
        return result

    def to_json(self) -> list[dict[str, Any]]:
        """Every load's result."""
        return [{"title": title, **result.to_json()} for title, result in self._results]


def main(argv: Sequence[str]) -> int:
    """Parses the command line and runs."""
    parser = argparse.ArgumentParser(prog="python -m demo.bench", description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each row (default: 3)")
    parser.add_argument("--seconds", type=float, default=2.5, help="length of one run, about (default: 2.5)")
    parser.add_argument("--random", type=int, default=32, help="adapters of random weights (default: 32)")
    parser.add_argument("--output", type=Path, default=_OUTPUT, help=f"JSON file (default: {_OUTPUT})")
    options = parser.parse_args(argv)
    return run_until_signalled(run(make_console(), options))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
