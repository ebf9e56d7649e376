"""`multilora store` and `multilora serve`: start the services, whose own settings say the rest."""

import importlib
import sys

import typer

_FORWARD = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def add_to(app: typer.Typer) -> None:
    """Adds this module's commands."""
    app.command(context_settings=_FORWARD, add_help_option=False)(store)
    app.command(context_settings=_FORWARD, add_help_option=False)(serve)


def store(context: typer.Context) -> None:
    """Run the adapter store (see: multilora store --help)."""
    _run("services.adapter_store.__main__", "adapter-store", context)


def serve(context: typer.Context) -> None:
    """Run the inference service (see: multilora serve --help)."""
    _run("services.inference.__main__", "inference", context)


def _run(module: str, extra: str, context: typer.Context) -> None:
    try:
        service = importlib.import_module(module)
    except ModuleNotFoundError as error:
        print(
            f"multilora {context.info_name}: Python module {error.name} is missing; "
            f"install the service with: pip install 'multilora[{extra}]'",
            file=sys.stderr,
        )
        raise typer.Exit(1) from None
    raise typer.Exit(service.main(context.args, prog=f"multilora {context.info_name}"))
