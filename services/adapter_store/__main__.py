"""`python -m services.adapter_store` serves until SIGTERM or Ctrl-C.

`... check` examines a store at rest, `... migrate` brings a database's tables to what this program needs.
"""

import asyncio
import logging
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from services.adapter_store import first_token
from services.adapter_store.database_settings import DatabaseSettings
from services.adapter_store.durable import make_dirs
from services.adapter_store.garbage.schedule import collect_regularly
from services.adapter_store.metadata import migrate
from services.adapter_store.servicer import SERVICE_NAME, add_to_server, store_gate
from services.adapter_store.settings import PlaceSettings, Settings
from services.adapter_store.store import Store, open_store
from services.common.gate import OpenGate
from services.common.server import Server
from services.common.serving import credentials_of, open_tracing, say_who_may_call
from services.common.settings import parse
from services.common.telemetry import set_up_logging

if TYPE_CHECKING:
    from services.common.metrics_server import MetricsServer

log = logging.getLogger(__name__)

# Calls into the store block on disk and on SQLite's one writer; this many may wait at once.
NUM_THREADS = 32


def main(argv: Sequence[str], prog: str) -> int:
    """Runs the service, or a subcommand; returns the exit status. Prints one ready line on stdout."""
    subcommands = {"check": _check, "migrate": _migrate, "first-token": first_token.main}
    if argv and argv[0] in subcommands:
        return subcommands[argv[0]](argv[1:], f"{prog} {argv[0]}")
    settings = parse(
        Settings,
        argv,
        prog=prog,
        description="Keeps, checks and hands out LoRA adapters. See also: "
        f"{', '.join(f'{prog} {each}' for each in subcommands)} (each with --help).",
    )
    _set_up_logging(settings.log_level, settings.log_format)
    try:
        with open_store(
            settings,
            settings.max_upload_bytes,
            settings.import_places(),
            settings.import_scratch_bytes,
        ) as store:
            store.check_right_place()
            store.uploads.recover()
            asyncio.run(_serve(store, settings))
    except OSError as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 1
    return 0


def _set_up_logging(level: str, log_format: str = "text") -> None:
    set_up_logging(level, "adapter-store", log_format)
    if level != "debug":
        # It says at INFO which dialect it speaks, each time that it looks.
        logging.getLogger("alembic").setLevel(logging.WARNING)


async def _serve(store: Store, settings: Settings) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(NUM_THREADS, "store"))
    tracing = open_tracing(settings, "multilora-store")
    server = Server(
        settings.listen,
        SERVICE_NAME,
        grace_s=settings.drain_grace_s,
        credentials=credentials_of(settings),
        tracing=tracing,
    )
    drain = add_to_server(store, server.inner, store_gate(store) if settings.is_guarded else OpenGate())
    metrics = _serve_metrics(store, server, settings)
    address = await server.start()
    await server.set_serving(True)
    say_who_may_call(settings, address)
    log.info("%r", store)
    print(f"multilora store listening on {address}", flush=True)
    collecting = None
    if settings.gc_interval_s:
        collecting = asyncio.create_task(collect_regularly(store.garbage, settings.gc_interval_s))
    await server.run_until_stopped(drain.prepare, drain.finish)
    if collecting is not None:
        collecting.cancel()
    if metrics is not None:
        metrics.close()
    await asyncio.to_thread(tracing.close)


def _serve_metrics(store: Store, server: Server, settings: Settings) -> "MetricsServer | None":
    """The endpoint, if there is to be one; only then is the exporter imported."""
    if settings.metrics_port is None:
        return None
    from services.adapter_store.store_metrics import serve_metrics

    return serve_metrics(store.upload_meter, server.rpc_meter, settings)


def _check(argv: Sequence[str], prog: str) -> int:
    place = parse(
        PlaceSettings,
        argv,
        prog=prog,
        description="Reads a store that is not running and says what is wrong.",
    )
    _set_up_logging(place.log_level)
    if not place.data_dir.is_dir():
        print(f"{prog}: --data-dir: {place.data_dir} is not a directory", file=sys.stderr)
        return 2
    try:
        with open_store(place, max_upload_bytes=0) as store:
            problems = store.check_integrity()
            print("\n".join([repr(store), *problems, f"{len(problems)} problems"]))
    except OSError as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 2
    return 1 if problems else 0


def _migrate(argv: Sequence[str], prog: str) -> int:
    place = parse(
        DatabaseSettings,
        argv,
        prog=prog,
        description="Brings the database's tables to what this program needs; does nothing if they are.",
    )
    _set_up_logging(place.log_level)
    try:
        if place.is_embedded:
            make_dirs(place.data_dir)
        done = migrate(place.database)
    except OSError as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 1
    print(f"schema {done.before}, this program's {done.after}: {done.outcome}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], "python -m services.adapter_store"))
