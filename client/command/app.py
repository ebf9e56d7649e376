"""The command's parts put together; each part is a module with its own commands."""

import sys

import typer

from client.command import (
    adapters,
    aliases,
    audit,
    bench,
    connection,
    deletion,
    garbage,
    generation,
    health,
    imports,
    keys,
    push,
    residency,
    services,
    tenants,
    tokens,
    versions,
    watch,
)
from client.errors import MultiloraError

app = typer.Typer(
    help="""Serve thousands of LoRA fine-tunes of one base model.

    In one terminal:    multilora store --data-dir data

    In another:         multilora serve --model path/to/base-model

    In a third:         multilora push path/to/adapter --adapter acme/reverse --alias production

                        multilora generate --adapter acme/reverse "stone"
    """,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_PARTS = (
    services,
    push,
    imports,
    adapters,
    versions,
    aliases,
    deletion,
    watch,
    keys,
    garbage,
    generation,
    residency,
    health,
    bench,
    tokens,
    tenants,
    audit,
)
for part in _PARTS:
    part.add_to(app)
connection.add_options(app)


def main() -> None:
    """Runs the command and exits: 0, 1 with one line on stderr, 2 on wrong usage, 130 on Ctrl-C."""
    try:
        app(prog_name="multilora")
    except MultiloraError as error:
        print(f"multilora: {error}", file=sys.stderr)
        sys.exit(1)
    except UnicodeError:
        print("multilora: arguments and input must be text in UTF-8", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
