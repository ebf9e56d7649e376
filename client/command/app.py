"""The command's parts put together; each part is a module with its own commands."""

import typer

from client.command import adapters, bench, generation, push, residency, services, versions

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

for part in (services, push, adapters, versions, generation, residency, bench):
    part.add_to(app)
