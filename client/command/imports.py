"""`multilora import`: have the store fetch an adapter by itself."""

from typing import Annotated

import typer

from client.command.connection import open_store
from client.command.options import STORE, Json, NoServer, Store, wait
from client.command.push import UploadBars, labels_of, print_published
from client.registry import AdapterVersion, Lineage


def add_to(app: typer.Typer) -> None:
    """Adds this module's commands."""
    app.command(name="import")(import_)


def import_(
    source: Annotated[
        str,
        typer.Argument(help="hf://REPO@REVISION, s3://BUCKET/PREFIX or a directory below --import-dir."),
    ],
    adapter: Annotated[str, typer.Option(help="Name: TENANT/ADAPTER. Created if it is new.")],
    alias: Annotated[str, typer.Option(help="Point this alias at the new version.")] = "",
    base_model: Annotated[str, typer.Option(help="For a new adapter; default: the only one known.")] = "",
    label: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="May be repeated.")] = None,
    run_id: Annotated[str, typer.Option(help="Training run this comes from.")] = "",
    dataset: Annotated[str, typer.Option(help="What it was trained on.")] = "",
    notes: Annotated[str, typer.Option(help="Anything worth knowing.")] = "",
    request_id: Annotated[str, typer.Option(help="The same again continues the same import.")] = "",
    store: Store = STORE,
    server: NoServer = "",
    json: Json = False,
) -> None:
    """Have the store make a version of what lies elsewhere: a model hub, S3, a directory of its own.

    multilora import hf://acme/reverse-lora@main --adapter acme/reverse --alias staging

    The bytes do not come by here, so that nothing can be signed: push where the tenant asks for signatures.
    """
    labels = labels_of(label or [])
    lineage = Lineage(run_id=run_id, dataset=dataset, notes=notes)

    async def work() -> AdapterVersion:
        with UploadBars() as bars:
            async with open_store(store) as client:
                version = await client.import_version(
                    source,
                    adapter,
                    base_model=base_model,
                    labels=labels,
                    lineage=lineage,
                    request_id=request_id,
                    progress=bars.show,
                )
                if alias:
                    await client.set_alias(f"{adapter}@{alias}", version.version)
                return version

    print_published(wait(work()), alias, json)
