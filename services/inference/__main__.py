"""Entry of the inference service: settings, logging, exit codes.

Must not know how anything is served.
"""

import asyncio
import logging
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from services.common.errors import ServiceError
from services.common.settings import parse
from services.common.telemetry import set_up_logging
from services.inference.adapters.store_client import AsyncStoreClient
from services.inference.engine_link import SpawnedEngine, run_engine_process
from services.inference.front_end import FrontEnd
from services.inference.served_model import ServedModel, read_served_model
from services.inference.settings import Settings

log = logging.getLogger(__name__)

BAD_INPUT = 2


def main(argv: Sequence[str], prog: str = "python -m services.inference") -> int:
    """Serves until told to stop. 0: drained; 1: failed or cut short; 2: cannot be started so."""
    settings = parse(Settings, argv, prog=prog, description="Serve a base model and its LoRA adapters.")
    set_up_logging(settings.log_level, "serve", settings.log_format)
    try:
        model = read_served_model(settings)
    except ServiceError as error:
        print(f"{prog}: error: --model: {error.message}", file=sys.stderr)
        return BAD_INPUT
    try:
        with _with_cache_dir(settings) as whole:
            return asyncio.run(_serve(whole, model))
    except OSError as error:
        print(f"{prog}: error: {error}", file=sys.stderr)
        return 1


@contextmanager
def _with_cache_dir(settings: Settings) -> Iterator[Settings]:
    """A directory of this run, where none is given: not the engine's own, which may crash and come again."""
    if settings.cache_dir is not None:
        yield settings
        return
    with tempfile.TemporaryDirectory(prefix="multilora-", ignore_cleanup_errors=True) as directory:
        yield replace(settings, cache_dir=Path(directory))


async def _serve(settings: Settings, model: ServedModel) -> int:
    front_end = FrontEnd(
        settings,
        model,
        AsyncStoreClient(settings.store_link, model.name),
        lambda: SpawnedEngine(settings, run_engine_process),
        _announce,
    )
    return await front_end.run()


def _announce(address: str) -> None:
    print(f"multilora serve listening on {address}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
