"""`multilora push`: publish a directory that PEFT wrote."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from client.command.connection import open_store
from client.command.keys import KeyId, SignKey, chosen_key
from client.command.options import STORE, Json, NoServer, Store, wait
from client.command.output import print_json, size_text
from client.names import short_name
from client.registry import AdapterVersion, Lineage
from client.upload import UploadProgress


def add_to(app: typer.Typer) -> None:
    """Adds this module's commands."""
    app.command()(push)


def push(
    directory: Annotated[Path, typer.Argument(help="Directory that PEFT's save_pretrained wrote.")],
    adapter: Annotated[str, typer.Option(help="Name: TENANT/ADAPTER. Created if it is new.")],
    alias: Annotated[str, typer.Option(help="Point this alias at the new version.")] = "",
    base_model: Annotated[str, typer.Option(help="For a new adapter; default: the only one known.")] = "",
    label: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="May be repeated.")] = None,
    run_id: Annotated[str, typer.Option(help="Training run this comes from.")] = "",
    dataset: Annotated[str, typer.Option(help="What it was trained on.")] = "",
    notes: Annotated[str, typer.Option(help="Anything worth knowing.")] = "",
    request_id: Annotated[str, typer.Option(help="The same again continues the same upload.")] = "",
    sign_key: SignKey = None,
    key_id: KeyId = "",
    store: Store = STORE,
    server: NoServer = "",
    json: Json = False,
) -> None:
    """Upload an adapter as its next version.

    multilora push out/checkpoint --adapter acme/reverse --alias production
    """
    labels = labels_of(label or [])
    lineage = Lineage(run_id=run_id, dataset=dataset, notes=notes)
    signing_key = chosen_key(sign_key, key_id)

    async def work() -> AdapterVersion:
        with UploadBars() as bars:
            async with open_store(store) as client:
                return await client.push(
                    directory,
                    adapter,
                    base_model=base_model,
                    alias=alias,
                    labels=labels,
                    lineage=lineage,
                    request_id=request_id,
                    signing_key=signing_key,
                    progress=bars.show,
                )

    print_published(wait(work()), alias, json)


def print_published(version: AdapterVersion, alias: str, json: bool) -> None:
    """Says which version there is now, and which alias points at it."""
    if json:
        print_json(version)
        return
    aliased = f", {alias} points at it" if alias else ""
    print(
        f"{short_name(version.name)} is {version.state}{aliased}: "
        f"rank {version.rank}, {size_text(version.size_bytes)}, key {version.key[:12]}"
    )


def labels_of(pairs: list[str]) -> dict[str, str]:
    """`KEY=VALUE` options as labels. Raises BadParameter."""
    labels = dict(pair.partition("=")[::2] for pair in pairs if "=" in pair)
    if len(labels) != len(pairs):
        raise typer.BadParameter("give KEY=VALUE, each key once", param_hint="--label")
    return labels


class UploadBars:
    """A bar for each file on stderr, for as long as the `with` lasts; silent where stderr is no terminal."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
        )
        self._bars = Progress(*columns, console=console, disable=not console.is_terminal)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "UploadBars":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def show(self, progress: UploadProgress) -> None:
        """Moves the file's bar."""
        if progress.path not in self._tasks:
            self._tasks[progress.path] = self._bars.add_task(progress.path, total=progress.size_bytes)
        self._bars.update(self._tasks[progress.path], completed=progress.sent_bytes)
