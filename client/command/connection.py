"""The options of every command about how to connect, and the clients that are made with them.

They are added to the commands when all of these are put together, so that no command has to name them.
"""

import functools
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any

import typer

from client.credentials import Credentials
from client.inference_client import InferenceClient
from client.store_client import StoreClient

_given: ContextVar[Credentials] = ContextVar("credentials", default=Credentials())  # noqa: B039 - immutable


def open_store(address: str) -> StoreClient:
    """A client of the store, with the credentials that the command was given."""
    return StoreClient(address, _given.get())


def open_server(address: str) -> InferenceClient:
    """A client of an inference server, with the credentials that the command was given."""
    return InferenceClient(address, _given.get())


def given_credentials() -> Credentials:
    """The credentials that the command was given."""
    return _given.get()


def _file(variable: str, text: str) -> Any:
    return Annotated[Path | None, typer.Option(envvar=variable, metavar="FILE", help=text)]


_OPTIONS: dict[str, tuple[Any, Any]] = {
    "token": (
        Annotated[
            str,
            typer.Option(envvar="MULTILORA_TOKEN", metavar="TOKEN", help="Access token; see --token-file."),
        ],
        "",
    ),
    "token_file": (_file("MULTILORA_TOKEN_FILE", "File that holds the access token."), None),
    "ca_file": (_file("MULTILORA_CA_FILE", "PEM of trusted CAs; turns TLS on."), None),
    "cert_file": (_file("MULTILORA_CERT_FILE", "PEM of your certificate, for mutual TLS."), None),
    "key_file": (_file("MULTILORA_KEY_FILE", "PEM of its key."), None),
    "plaintext_token": (
        Annotated[
            bool,
            typer.Option("--plaintext-token", help="Send the token to another machine without TLS."),
        ],
        False,
    ),
}


def add_options(app: typer.Typer) -> None:
    """Gives each command of `app` and its groups the options of this module; not those that run services."""
    for group in app.registered_groups:
        if group.typer_instance is not None:
            add_options(group.typer_instance)
    for command in app.registered_commands:
        if command.callback is not None and not (command.context_settings or {}).get("allow_extra_args"):
            command.callback = _with_options(command.callback)


def _with_options(callback: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(callback)
    def command(**values: Any) -> Any:
        _given.set(Credentials(**{name: values.pop(name) for name in _OPTIONS}))
        return callback(**values)

    signature = inspect.signature(callback)
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in _OPTIONS.items()
    ]
    command.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), *added]
    )
    command.__annotations__ = callback.__annotations__ | {
        name: annotation for name, (annotation, _) in _OPTIONS.items()
    }
    return command
