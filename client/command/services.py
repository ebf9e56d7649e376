"""`multilora store` and `multilora serve`: start the services, whose own settings say the rest."""

import importlib
import importlib.util
import sys
from typing import NoReturn

import typer

# What a service cannot do without and a client-only install lacks, by the extra that brings it.
_REQUIREMENTS = {
    "adapter-store": (
        "sqlalchemy",
        "alembic",
        "psycopg",
        "numpy",
        "grpc_health",
        "grpc_reflection",
    ),
    "inference": ("torch", "safetensors", "tokenizers", "jinja2", "numpy", "grpc_health", "grpc_reflection"),
}

_FORWARD = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def add_to(app: typer.Typer) -> None:
    """Adds this module's commands."""
    app.command(context_settings=_FORWARD, add_help_option=False)(store)
    app.command(context_settings=_FORWARD, add_help_option=False)(serve)


def store(context: typer.Context) -> None:
    """Run the adapter store (see: multilora store --help)."""
    _run("services.adapter_store.__main__", "adapter-store", "multilora store", context.args)


def serve(context: typer.Context) -> None:
    """Run the inference service (see: multilora serve --help)."""
    _run("services.inference.__main__", "inference", "multilora serve", context.args)


def run_first_token(arguments: list[str], prog: str) -> NoReturn:
    """Makes a store's first token in the name of `prog`, and exits as the store's own program does."""
    _run("services.adapter_store.first_token", "adapter-store", prog, arguments)


def _run(module: str, extra: str, prog: str, arguments: list[str]) -> NoReturn:
    missing = [name for name in _REQUIREMENTS[extra] if importlib.util.find_spec(name) is None]
    if missing:
        print(
            f"{prog}: this install has no {', '.join(missing)}; "
            f"install the service with: pip install 'multilora[{extra}]'",
            file=sys.stderr,
        )
        raise typer.Exit(1)
    raise typer.Exit(importlib.import_module(module).main(arguments, prog=prog))
