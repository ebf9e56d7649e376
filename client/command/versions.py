"""`multilora enable` and `disable`: which versions may answer."""

from typing import Annotated

import typer

from client.command.connection import open_store
from client.command.options import STORE, Json, NoServer, Store, wait
from client.command.output import print_json
from client.names import short_name
from client.registry import AdapterVersion

_VersionName = Annotated[str, typer.Argument(metavar="NAME", help="A version: acme/reverse@3.")]


def add_to(app: typer.Typer) -> None:
    """Adds this module's commands."""
    app.command()(disable)
    app.command()(enable)


def disable(name: _VersionName, store: Store = STORE, server: NoServer = "", json: Json = False) -> None:
    """Refuse a version to new requests; running streams finish.

    multilora disable acme/reverse@3
    """

    async def work() -> AdapterVersion:
        async with open_store(store) as client:
            return await client.disable_version(name)

    _print_state(wait(work()), json)


def enable(name: _VersionName, store: Store = STORE, server: NoServer = "", json: Json = False) -> None:
    """Take a disable back.

    multilora enable acme/reverse@3
    """

    async def work() -> AdapterVersion:
        async with open_store(store) as client:
            return await client.enable_version(name)

    _print_state(wait(work()), json)


def _print_state(version: AdapterVersion, json: bool) -> None:
    print_json(version) if json else print(f"{short_name(version.name)} is {version.state}")
