"""The `multilora` command."""

import sys

from client.errors import MultiloraError


def main() -> None:
    """Runs the command and exits: 0, 1 with one line on stderr, 2 on wrong usage, 130 on Ctrl-C."""
    from client.command.app import app

    try:
        app(prog_name="multilora")
    except MultiloraError as error:
        print(f"multilora: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
