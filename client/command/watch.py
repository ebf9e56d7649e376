"""`multilora watch`: what changes in the store, as it changes."""

import contextlib
import json as json_text
from typing import Annotated

import typer

from client.command.connection import open_store
from client.command.options import STORE, Json, NoServer, Store, wait
from client.command.output import time_text
from client.names import short_name
from client.registry import ChangeBatch
from client.wire import to_json


def add_to(app: typer.Typer) -> None:
    """Adds this module's commands."""
    app.command()(watch)


def watch(
    tenant: Annotated[str, typer.Argument(help="Only this tenant's.")] = "",
    resume: Annotated[
        str, typer.Option(metavar="TOKEN", help="Go on after this resume_token of --json.")
    ] = "",
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Print what there is after --resume, and end.")
    ] = False,
    store: Store = STORE,
    server: NoServer = "",
    json: Json = False,
) -> None:
    """Print every change as it is made, until Ctrl-C: versions, aliases, deletions.

    Goes on after broken connections without missing a change. With --json each batch is one line, with the
    resume_token to go on from; the first comes at once.

    multilora watch acme

    multilora watch --json --no-wait --resume "$TOKEN"
    """

    async def work() -> None:
        token = ""
        async with (
            open_store(store) as client,
            contextlib.aclosing(client.watch(resume, tenant=tenant)) as batches,
        ):
            async for batch in batches:
                _print(batch, json, is_first=not token)
                token = batch.resume_token
                if no_wait and batch.caught_up:
                    return

    wait(work())


def _print(batch: ChangeBatch, json: bool, *, is_first: bool) -> None:
    if json:
        if batch.changes or batch.reset or is_first:
            print(json_text.dumps(to_json(batch), ensure_ascii=False), flush=True)
        return
    if batch.reset:
        print("changes were missed: the token was too old, or of another store", flush=True)
    for change in batch.changes:
        print(f"{time_text(change.time)}  {change.kind:<16}  {short_name(change.name)}", flush=True)
