"""Runs a load three ways (no adapter, one, many), again and again in turn, on one server.

In turn, so that whatever else the machine does falls on all rows alike, and repeated, so that it shows.
"""

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from client.bench.load import Load
from client.bench.measure import Run, run_trace
from client.bench.report import MANY_ADAPTERS, NO_ADAPTER, ONE_ADAPTER, Row, summarize
from client.bench.trace import PlannedRequest, draw_trace
from client.inference_client import InferenceClient
from client.serving import Model, Stats
from client.wire import to_json


@dataclass(frozen=True, slots=True)
class Result:
    """One benchmark: its load, the server it ran on, the rows, and the server's counters around it."""

    load: Load
    model: Model
    adapters: tuple[str, ...]
    one_adapter: str
    rows: tuple[Row, ...]
    stats_before: Stats
    stats_after: Stats

    def to_json(self) -> dict[str, Any]:
        """Everything, with the machine and versions that it ran with."""
        return {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "client_machine": {"platform": platform.platform(), "python": platform.python_version()},
            "versions": {name: version(name) for name in ("grpcio", "protobuf")},
            **to_json(self),
        }


async def run_benchmark(
    client: InferenceClient,
    load: Load,
    adapters: Sequence[str],
    *,
    one_adapter: str,
    repeats: int = 3,
    on_run: Callable[[str, Run], None] = lambda name, run: None,
) -> Result:
    """Runs `load` `repeats` times a row over `adapters`; `on_run` hears of each finished run.

    Every adapter answers one request first: what is measured is serving, not the first fetch. Raises
    MultiloraError if the server cannot be reached.
    """
    model = await client.get_model()
    traces = _traces(draw_trace(load, adapters), one_adapter)
    await _warm_up(client, load, ["", one_adapter, *adapters])
    before = await client.get_stats()
    runs: dict[str, list[Run]] = {name: [] for name in traces}
    for repeat in range(repeats):
        names = list(traces)
        # Another row goes first each time: the first one after a pause may find a colder machine.
        for name in names[repeat % len(names) :] + names[: repeat % len(names)]:
            run = await run_trace(client, traces[name], load)
            runs[name].append(run)
            on_run(name, run)
    return Result(
        load=load,
        model=model,
        adapters=tuple(adapters),
        one_adapter=one_adapter,
        rows=tuple(summarize(runs)),
        stats_before=before,
        stats_after=await client.get_stats(),
    )


def _traces(many: list[PlannedRequest], one_adapter: str) -> dict[str, list[PlannedRequest]]:
    return {
        NO_ADAPTER: [replace(planned, adapter="") for planned in many],
        ONE_ADAPTER: [replace(planned, adapter=one_adapter) for planned in many],
        MANY_ADAPTERS: many,
    }


async def _warm_up(client: InferenceClient, load: Load, adapters: Sequence[str]) -> None:
    prompt_ids = (1,) * load.prompt_tokens[0]
    trace = [PlannedRequest(0.0, adapter, prompt_ids, 4) for adapter in adapters]
    await run_trace(client, trace, replace(load, loop=load.loop.closed))
