"""`multilora audit`: who changed what."""

from datetime import datetime
from typing import Annotated, Any

import typer

from client.access import AuditEntry
from client.command.connection import open_store
from client.command.options import STORE, Json, NoServer, Store, wait
from client.command.output import print_json, print_table, time_text


def _time(help_line: str) -> Any:
    return typer.Option(
        metavar="TIME", formats=["%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S"], help=help_line
    )


def _aware(time: datetime | None) -> datetime | None:
    return None if time is None else time.astimezone()


def add_to(app: typer.Typer) -> None:
    """Adds this module's commands."""
    app.command()(audit)


def audit(
    tenant: Annotated[str, typer.Option(metavar="TENANT", help="A tenant; '*': all and operators.")] = "*",
    limit: Annotated[int, typer.Option(min=1, help="At most this many, newest first.")] = 50,
    resource: Annotated[
        str, typer.Option(metavar="PREFIX", help="Only what full names that begin so stand for.")
    ] = "",
    since: Annotated[datetime | None, _time("Only from then on: local time, as it is shown.")] = None,
    until: Annotated[datetime | None, _time("Only before then.")] = None,
    store: Store = STORE,
    server: NoServer = "",
    json: Json = False,
) -> None:
    """Show who changed what, newest first.

    multilora audit --tenant acme --limit 20

    multilora audit --resource tenants/acme/adapters/support --since 2026-03-01
    """

    async def work() -> list[AuditEntry]:
        entries: list[AuditEntry] = []
        async with open_store(store) as client:
            wanted = client.list_audit_log(
                tenant, resource_prefix=resource, start_time=_aware(since), end_time=_aware(until)
            )
            async for entry in wanted:
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
