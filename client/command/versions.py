"""`multilora alias`, `enable` and `disable`: which version answers."""

from typing import Annotated

import typer

from client.command.connection import open_store
from client.command.options import MAX_INT64, STORE, Json, NoServer, Store, wait
from client.command.output import print_json, print_table, time_text
from client.names import short_name
from client.registry import AdapterVersion, Alias, AliasMove

_VersionName = Annotated[str, typer.Argument(metavar="NAME", help="A version: acme/reverse@3.")]


def add_to(app: typer.Typer) -> None:
    """Adds this module's commands."""
    app.command()(alias)
    app.command()(disable)
    app.command()(enable)


def alias(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An alias: acme/reverse@staging.")],
    version: Annotated[
        int | None, typer.Argument(min=1, max=MAX_INT64, help="Point it here; without: its history.")
    ] = None,
    expect: Annotated[
        int | None,
        typer.Option(
            min=0, max=MAX_INT64, help="Only if it points at this version now; 0: only if it is new."
        ),
    ] = None,
    store: Store = STORE,
    server: NoServer = "",
    json: Json = False,
) -> None:
    """Point an alias at a version, or show where it has pointed.

    multilora alias acme/reverse@production 3 --expect 2

    multilora alias acme/reverse@production
    """
    if "@" not in name and "/aliases/" not in name:
        raise typer.BadParameter(f"{name!r} names no alias: give {name}@production", param_hint="NAME")

    async def move(to_version: int) -> Alias:
        async with open_store(store) as client:
            return await client.set_alias(name, to_version, expected_version=expect)

    async def history() -> list[AliasMove]:
        async with open_store(store) as client:
            return await client.list_alias_history(name)

    if version is not None:
        moved = wait(move(version))
        print_json(moved) if json else print(f"{short_name(moved.name)} points at version {moved.version}")
        return
    moves = wait(history())
    if json:
        print_json(moves)
        return
    print_table(
        ("TIME", "FROM", "TO", "BY"),
        (
            (time_text(each.time), each.from_version or "new", each.to_version, each.moved_by)
            for each in moves
        ),
    )


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
