"""`multilora bench`: a load test of a running server."""

import json as jsonlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client.bench.load import Load, Loop, Popularity, parse_range
from client.command.connection import open_server, open_store
from client.command.options import SERVER, STORE, Json, Server, Store, wait
from client.command.output import out_console
from client.errors import MultiloraError, invalid

if TYPE_CHECKING:
    from client.bench.benchmark import Result


def add_to(app: typer.Typer) -> None:
    """Adds this module's commands."""
    app.command()(bench)


def bench(
    adapter: Annotated[list[str] | None, typer.Option(help="Use this adapter; may be repeated.")] = None,
    tenant: Annotated[str, typer.Option(help="Use all adapters of this tenant.")] = "",
    random: Annotated[
        int, typer.Option(metavar="N", min=0, help="Push and use N random adapters, ranks 4 to 32.")
    ] = 0,
    loop: Annotated[Loop, typer.Option(help="closed: N at a time; open: by arrivals.")] = Loop.closed,
    requests: Annotated[int, typer.Option(min=1, help="Closed loop: requests a run.")] = 64,
    concurrency: Annotated[int, typer.Option(min=1, help="Closed loop: streams at a time.")] = 16,
    rate: Annotated[float, typer.Option(help="Open loop: requests a second.")] = 4.0,
    duration: Annotated[float, typer.Option(help="Open loop: seconds of arrivals a run.")] = 10.0,
    cv: Annotated[float, typer.Option(help="Open loop: gamma gaps of this variation; 1 is Poisson.")] = 1.0,
    popularity: Annotated[Popularity, typer.Option(help="Who asks for which.")] = Popularity.distinct,
    skew: Annotated[float, typer.Option(help="zipf: exponent; power: alpha (1 uniform, 0.1 skewed).")] = 1.0,
    prompt_tokens: Annotated[str, typer.Option(help="N, or LOW:HIGH (HIGH exclusive).")] = "16",
    output_tokens: Annotated[str, typer.Option(help="N, or LOW:HIGH (HIGH exclusive).")] = "32",
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each row, in turn.")] = 3,
    seed: Annotated[int, typer.Option(min=0)] = 42,
    output: Annotated[Path | None, typer.Option(help="Also write everything as JSON here.")] = None,
    server: Server = SERVER,
    store: Store = STORE,
    json: Json = False,
) -> None:
    """Measure a server with no adapter, one adapter, and many.

    multilora bench --tenant acme --concurrency 32 --requests 256

    multilora bench --random 200 --loop open --rate 10 --duration 60 --popularity power --skew 0.3
    --prompt-tokens 8:512 --output-tokens 8:512
    """
    try:
        load = Load(
            loop=loop,
            num_requests=requests,
            concurrency=concurrency,
            rate_per_s=rate,
            duration_s=duration,
            cv=cv,
            popularity=popularity,
            skew=skew,
            prompt_tokens=parse_range(prompt_tokens),
            output_tokens=parse_range(output_tokens),
            seed=seed,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None

    result = wait(_bench(server, store, load, tuple(adapter or ()), tenant, random, repeats))
    if output is not None:
        output.write_text(jsonlib.dumps(result.to_json(), indent=2) + "\n")
    if json:
        print(jsonlib.dumps(result.to_json(), indent=2))
    else:
        _print_result(result)
    if any(row.num_errors for row in result.rows):
        failed = next(row for row in result.rows if row.num_errors)
        raise MultiloraError(
            "INTERNAL", f"{failed.name}: {failed.num_errors} failed, first: {failed.first_error}"
        )


async def _bench(
    server: str, store: str, load: Load, adapters: tuple[str, ...], tenant: str, random: int, repeats: int
) -> "Result":
    try:
        from client.bench.adapter_choice import choose_adapters, median_rank_adapter
        from client.bench.benchmark import run_benchmark
    except ModuleNotFoundError as error:
        message = f"bench needs the Python module {error.name}: pip install 'multilora[bench]'"
        raise MultiloraError("UNIMPLEMENTED", message) from None

    async with open_server(server) as client, open_store(store) as registry:
        names = await choose_adapters(client, registry, adapters, tenant, random)
        if not names:
            raise invalid("adapter", "name adapters with --adapter, --tenant or --random N")
        return await run_benchmark(
            client,
            load,
            names,
            one_adapter=await median_rank_adapter(registry, names),
            repeats=repeats,
            on_run=lambda name, run: print(f"{name:<14} {run.tokens_per_s:8,.0f} tok/s", file=sys.stderr),
        )


def _print_result(result: "Result") -> None:
    from client.bench.report import table_of

    load, model = result.load, result.model
    shape = (
        f"{load.size} requests, {load.concurrency} at a time"
        if load.loop is Loop.closed
        else f"{load.rate_per_s:g} requests a second for {load.duration_s:g} s, cv {load.cv:g}"
    )
    title = (
        f"{model.base_model}, {model.dtype} on {model.device}; {load.loop} loop: {shape}; {load.popularity}"
    )
    out_console().print(table_of(title, result.rows))
    print(f"one adapter: {result.one_adapter}, the one of median rank")
