"""The inference service with a model of random weights: `python -m benchmarks.service.random_server FLAGS`.

Its front end and its engine's process are the service's own; only the weights are made instead of read.
"""

import asyncio
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection

from services.common.settings import parse
from services.common.telemetry import set_up_logging
from services.inference.adapters.store_client import AsyncStoreClient
from services.inference.engine_link import SpawnedEngine
from services.inference.front_end import FrontEnd
from services.inference.served_model import read_served_model
from services.inference.settings import Settings

LISTENING = "listening on "


def run_random_engine(settings: Settings, connection: Connection) -> None:
    """The engine's process. torch stays out of the front end."""
    from benchmarks.random_model import RandomModel
    from services.inference.engine_process import run_engine

    run_engine(settings, connection, load=RandomModel().load)


def main(argv: Sequence[str]) -> int:
    """Serves until SIGTERM; the exit code."""
    settings = parse(Settings, argv, prog="random_server", description="The service on random weights.")
    set_up_logging(settings.log_level, "serve")
    return asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> int:
    model = read_served_model(settings)
    front_end = FrontEnd(
        settings,
        model,
        AsyncStoreClient(settings.store_link, model.name),
        lambda: SpawnedEngine(settings, run_random_engine),
        lambda address: print(f"{LISTENING}{address}", flush=True),
    )
    return await front_end.run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
