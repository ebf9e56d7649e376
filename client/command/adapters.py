"""`multilora list` and `multilora show`: what the store holds."""

from typing import Annotated

import typer

from client.command.connection import open_store
from client.command.options import STORE, AdapterName, Json, NoServer, Store, wait
from client.command.output import print_fields, print_json, print_table, size_text, time_text
from client.names import short_name
from client.registry import Adapter, AdapterVersion, Alias


def add_to(app: typer.Typer) -> None:
    """Adds this module's commands."""
    app.command("list")(list_adapters)
    app.command()(show)


def list_adapters(
    tenant: Annotated[str, typer.Argument(help="Only this tenant's.")] = "",
    store: Store = STORE,
    server: NoServer = "",
    json: Json = False,
) -> None:
    """List adapters.

    multilora list acme
    """

    async def work() -> list[Adapter]:
        async with open_store(store) as client:
            return await client.list_adapters(tenant)

    adapters = wait(work())
    if json:
        print_json(adapters)
        return
    if not adapters:
        print("no adapters yet: multilora push DIR --adapter TENANT/NAME")
        return
    print_table(
        ("ADAPTER", "BASE MODEL", "LATEST", "ALIASES", "UPDATED"),
        (
            (
                short_name(each.name),
                each.base_model,
                each.latest_version or "none",
                _aliases(each),
                time_text(each.update_time),
            )
            for each in adapters
        ),
    )


def _aliases(adapter: Adapter) -> str:
    return " ".join(
        f"{short_name(alias.name).rpartition('@')[2]}->{_aim(alias)}" for alias in adapter.aliases
    )


def _aim(alias: Alias) -> str:
    return ",".join(f"{each.version}={each.weight}" for each in alias.targets) or str(alias.version)


def show(name: AdapterName, store: Store = STORE, server: NoServer = "", json: Json = False) -> None:
    """Show an adapter and its versions, or one version.

    multilora show acme/reverse

    multilora show acme/reverse@3
    """

    async def work() -> tuple[Adapter, list[AdapterVersion]] | AdapterVersion:
        async with open_store(store) as client:
            # An alias is resolved; a number is looked up as it is, so that a disabled or failed one shows.
            if "@" in name and not name.rpartition("@")[2].isdigit():
                return await client.resolve_version(name)
            if "@" in name or "/versions/" in name:
                return await client.get_version(name)
            return await client.get_adapter(name), await client.list_versions(name)

    found = wait(work())
    if isinstance(found, AdapterVersion):
        print_json(found) if json else _print_version(found)
        return
    adapter, versions = found
    if json:
        print_json({"adapter": adapter, "versions": versions})
        return
    _print_adapter(adapter, versions)


def _print_adapter(adapter: Adapter, versions: list[AdapterVersion]) -> None:
    print_fields(
        (
            ("adapter", short_name(adapter.name)),
            ("base model", adapter.base_model),
            ("title", adapter.display_name),
            ("description", adapter.description),
            ("labels", _pairs(adapter.labels)),
            ("aliases", _aliases(adapter)),
            ("created", time_text(adapter.create_time)),
        )
    )
    print()
    print_table(
        ("VERSION", "STATE", "RANK", "SIZE", "KEY", "CREATED", ""),
        (
            (
                each.version,
                each.state.value,
                each.rank,
                size_text(each.size_bytes),
                each.key[:12],
                time_text(each.create_time),
                each.status_message,
            )
            for each in versions
        ),
    )


def _print_version(version: AdapterVersion) -> None:
    variants = [name for name, on in (("rsLoRA", version.flags.rslora), ("DoRA", version.flags.dora)) if on]
    print_fields(
        (
            ("version", short_name(version.name)),
            ("state", version.state.value),
            ("why", version.status_message),
            ("key", version.key),
            ("base model", version.base_model),
            ("rank", version.rank),
            ("alpha", f"{version.alpha:g}"),
            ("modules", " ".join(version.target_modules)),
            ("variant", " ".join(variants)),
            ("parameters", f"{version.num_parameters:,}"),
            ("size", size_text(version.size_bytes)),
            ("signed", f"with key {version.signature.key_id}" if version.signature else ""),
            ("labels", _pairs(version.labels)),
            ("run", version.lineage.run_id),
            ("dataset", version.lineage.dataset),
            ("notes", version.lineage.notes),
            ("created", time_text(version.create_time)),
        )
    )
    print()
    print_table(
        ("FILE", "SIZE", "SHA256"),
        ((each.path, size_text(each.size_bytes), each.sha256) for each in version.files),
    )


def _pairs(labels: dict[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in sorted(labels.items()))
