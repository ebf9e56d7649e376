"""`multilora health`: whether services take calls, for containers' health checks and scripts."""

from typing import Annotated

import typer

from client.command.connection import given_credentials
from client.command.options import Json, wait
from client.command.output import print_json
from client.health import check_health


def add_to(app: typer.Typer) -> None:
    """Adds this module's commands."""
    app.command()(health)


def health(
    server: Annotated[str, typer.Option("--server", metavar="HOST:PORT", help="Inference server.")] = "",
    store: Annotated[str, typer.Option("--store", metavar="HOST:PORT", help="Adapter store.")] = "",
    timeout_s: Annotated[float, typer.Option("--timeout-s", min=0.1, help="How long to wait.")] = 5.0,
    json: Json = False,
) -> None:
    """Exit with 0 if the services named take calls, with 1 if one does not.

    multilora health --server 127.0.0.1:7000
    """
    # Not from MULTILORA_SERVER and MULTILORA_STORE: where a service runs, they name what it depends on.
    addresses = [address for address in (server, store) if address]
    if not addresses:
        raise typer.BadParameter("give --server, --store, or both")
    for address in addresses:
        wait(check_health(address, given_credentials(), timeout_s))
        if not json:
            print(f"{address} serves")
    if json:
        print_json({"serving": addresses})
