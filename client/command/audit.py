"""`multilora audit`: who changed what."""

from typing import Annotated

import typer

from client.access import AuditEntry
from client.command.connection import open_store
from client.command.options import STORE, Json, NoServer, Store, wait
from client.command.output import print_json, print_table, time_text


def add_to(app: typer.Typer) -> None:
    """Adds this module's commands."""
    app.command()(audit)


def audit(
    tenant: Annotated[str, typer.Option(metavar="TENANT", help="A tenant; '*': all and operators.")] = "*",
    limit: Annotated[int, typer.Option(min=1, help="At most this many, newest first.")] = 50,
    store: Store = STORE,
    server: NoServer = "",
    json: Json = False,
) -> None:
    """Show who changed what, newest first.

    multilora audit --tenant acme --limit 20
    """

    async def work() -> list[AuditEntry]:
        entries: list[AuditEntry] = []
        async with open_store(store) as client:
            async for entry in client.list_audit_log(tenant):
                entries.append(entry)
                if len(entries) == limit:
                    break
        return entries

    entries = wait(work())
    if json:
        print_json(entries)
        return
    print_table(
        ("TIME", "WHO", "ACTION", "WHAT", "DETAIL"),
        ((time_text(each.time), each.actor, each.action, each.resource, each.detail) for each in entries),
    )
