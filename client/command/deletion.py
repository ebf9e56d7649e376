"""`multilora delete`: versions and adapters that are to go for good."""

from typing import Annotated

import typer

from client.command.connection import open_store
from client.command.options import STORE, Json, NoServer, Store, wait
from client.command.output import print_json
from client.names import short_name


def add_to(app: typer.Typer) -> None:
    """Adds this module's commands."""
    app.command()(delete)


def delete(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="A version (acme/reverse@3), an alias, or a whole adapter."),
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    store: Store = STORE,
    server: NoServer = "",
    json: Json = False,
) -> None:
    """Delete a version, an alias, or an adapter with all its versions and aliases. It does not come back.

    A version that an alias points at is kept: move the alias first. `multilora disable` can be taken back.
    The number of a deleted version is not used again.

    multilora delete acme/reverse@3

    multilora delete acme/reverse --yes
    """
    kind = _kind(name)
    if not yes:
        what = {"adapter": "the adapter {} with all its versions and aliases"}.get(kind, f"the {kind} {{}}")
        typer.confirm(f"Delete {what.format(short_name(name))} for good?", abort=True, err=True)

    async def work() -> None:
        async with open_store(store) as client:
            if kind == "version":
                await client.delete_version(name)
            elif kind == "alias":
                await client.delete_alias(name)
            else:
                await client.delete_adapter(name)

    wait(work())
    print_json({"deleted": name, "kind": kind}) if json else print(f"{short_name(name)} is deleted")


def _kind(name: str) -> str:
    last = name.rpartition("@")[2]
    if "/versions/" in name or ("@" in name and last.isdecimal()):
        return "version"
    return "alias" if "@" in name or "/aliases/" in name else "adapter"
