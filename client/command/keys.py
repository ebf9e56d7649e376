"""`multilora key`: keys that versions are signed with; and the options of commands that sign."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from client.command.options import Json, NoServer, NoStore
from client.command.output import print_json
from client.signing import SigningKey, generate_key, read_key

SignKey = Annotated[Path | None, typer.Option(metavar="FILE", help="Sign the version with this private key.")]
KeyId = Annotated[str, typer.Option(metavar="ID", help="Id under which the tenant trusts the key.")]


def add_to(app: typer.Typer) -> None:
    """Adds this module's commands."""
    keys = typer.Typer(
        help="Keys that versions are signed with.", no_args_is_help=True, rich_markup_mode=None
    )
    keys.command()(generate)
    app.add_typer(keys, name="key")


def generate(
    out: Annotated[Path, typer.Argument(metavar="FILE", help="Where the private key goes.")],
    store: NoStore = "",
    server: NoServer = "",
    json: Json = False,
) -> None:
    """Make an Ed25519 key pair: the private key into FILE, the public key printed.

    multilora key generate ci.pem > ci.pub

    multilora tenant update acme --trust ci=$(cat ci.pub)
    """
    public_key = generate_key(out)
    if json:
        print_json({"private_key_file": str(out), "public_key": public_key.hex()})
        return
    print(public_key.hex())
    print(f"That is the public key, for the tenant to trust. {out} is secret.", file=sys.stderr)


def chosen_key(sign_key: Path | None, key_id: str) -> SigningKey | None:
    """The key that the options name. Raises BadParameter if they do not fit together."""
    if sign_key is None:
        if key_id:
            raise typer.BadParameter("needs --sign-key FILE", param_hint="--key-id")
        return None
    if not key_id:
        raise typer.BadParameter(
            "needs --key-id ID, which the tenant trusts the key by", param_hint="--sign-key"
        )
    return read_key(sign_key, key_id)
