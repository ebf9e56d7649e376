"""`multilora gc`: free what nothing refers to."""

from typing import Annotated

import typer

from client.command.connection import open_store
from client.command.options import MAX_INT32, STORE, Json, NoServer, Store, wait
from client.command.output import print_json, size_text
from client.registry import CollectGarbageResponse


def add_to(app: typer.Typer) -> None:
    """Adds this module's commands."""
    app.command()(gc)


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and leave it.")] = False,
    min_age_s: Annotated[
        int | None,
        typer.Option(min=0, max=MAX_INT32, help="Leave what is younger than this.  [default: 3600]"),
    ] = None,
    store: Store = STORE,
    server: NoServer = "",
    json: Json = False,
) -> None:
    """Free the store's bytes that no version, upload or lease refers to.

    Exits with 1 if bytes of a version are missing.

    multilora gc --dry-run

    multilora gc
    """

    async def work() -> CollectGarbageResponse:
        async with open_store(store) as client:
            return await client.collect_garbage(dry_run=dry_run, min_age_s=min_age_s)

    found = wait(work())
    print_json(found) if json else _print(found, dry_run)
    if found.missing_sha256s:
        raise typer.Exit(1)


def _print(found: CollectGarbageResponse, dry_run: bool) -> None:
    verb = "would be" if dry_run else "were"
    print(
        f"{found.freed_blobs} blobs of {size_text(found.freed_bytes)} {verb} freed, "
        f"{found.orphaned_blobs} of them unknown to the store; {found.expired_uploads} idle uploads "
        f"{verb} given up"
    )
    for sha256 in found.missing_sha256s:
        print(f"missing: {sha256} (restore it from a backup, or push the same files again)")
