"""Options that several commands share."""

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

import typer

from client.channel import DEFAULT_SERVER, DEFAULT_STORE

R = TypeVar("R")

Store = Annotated[
    str, typer.Option("--store", envvar="MULTILORA_STORE", metavar="HOST:PORT", help="Adapter store.")
]
Server = Annotated[
    str, typer.Option("--server", envvar="MULTILORA_SERVER", metavar="HOST:PORT", help="Inference server.")
]
# Every command takes both addresses, so that a script can give the same two to all of them.
NoStore = Annotated[
    str, typer.Option("--store", metavar="HOST:PORT", help="Not needed here.", expose_value=False)
]
NoServer = Annotated[
    str, typer.Option("--server", metavar="HOST:PORT", help="Not needed here.", expose_value=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
AdapterName = Annotated[
    str,
    typer.Argument(metavar="NAME", help="acme/support, acme/support@staging or acme/support@3."),
]

MAX_INT32 = 2**31 - 1
MAX_INT64 = 2**63 - 1

STORE = DEFAULT_STORE
SERVER = DEFAULT_SERVER


def wait(work: Coroutine[Any, Any, R]) -> R:
    """Runs `work` to its end; Ctrl-C cancels it first."""
    return asyncio.run(work)
