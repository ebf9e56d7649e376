"""`multilora token`: hand out, list and revoke access tokens."""

import sys
from enum import StrEnum
from typing import Annotated

import typer

from client.access import CreatedToken, Role, Token
from client.command.connection import open_store
from client.command.options import STORE, Json, NoServer, Store, wait
from client.command.output import print_json, print_table, time_text
from client.command.services import run_first_token

_Tenant = Annotated[str, typer.Option(metavar="TENANT", help="A tenant; '*': all of them.")]


class RoleName(StrEnum):
    """What a token allows."""

    reader = "reader"
    publisher = "publisher"
    admin = "admin"


def add_to(app: typer.Typer) -> None:
    """Adds this module's commands."""
    tokens = typer.Typer(help="Access tokens.", no_args_is_help=True, rich_markup_mode=None)
    tokens.command()(create)
    tokens.command("list")(list_tokens)
    tokens.command()(revoke)
    app.add_typer(tokens, name="token")


def create(
    tenant: _Tenant,
    role: Annotated[
        RoleName,
        typer.Option(help="reader: resolve, read, generate; publisher: upload, move aliases; admin: all."),
    ] = RoleName.reader,
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
    days: Annotated[int, typer.Option(min=0, help="Until it expires; 0: never.")] = 0,
    data_dir: Annotated[
        str, typer.Option(metavar="DIR", help="First token: straight into the store's data directory.")
    ] = "",
    database_url: Annotated[
        str, typer.Option(metavar="URL", help="First token: straight into the store's database.")
    ] = "",
    store: Store = STORE,
    server: NoServer = "",
    json: Json = False,
) -> None:
    """Make a token and print its secret, this once.

    The first one, on the store's own machine, while no operator has a good token:

    multilora token create --tenant '*' --role admin --data-dir DIR > operator.token

    Then, through the store: one for a team, and one for an inference server (multilora serve
    --store-token-file)

    multilora token create --tenant acme --role publisher --token-file operator.token

    multilora token create --tenant '*' --role publisher --token-file operator.token > serve.token
    """
    ttl_s = days * 24 * 3600
    if data_dir or database_url:
        _create_first(tenant, role, description, ttl_s, data_dir, database_url, json)

    async def work() -> CreatedToken:
        async with open_store(store) as client:
            return await client.create_token(
                tenant, Role(role.value.upper()), description=description, ttl_s=ttl_s
            )

    created = wait(work())
    if json:
        print_json(created)
        return
    token = created.token
    print(created.secret)
    print(
        f"token {token.token_id}: {token.role} in {token.tenant}. Keep it now: it cannot be shown again.",
        file=sys.stderr,
    )


def _create_first(
    tenant: str,
    role: RoleName,
    description: str,
    ttl_s: int,
    data_dir: str,
    database_url: str,
    json: bool,
) -> None:
    if tenant not in ("*", "tenants/*") or role is not RoleName.admin:
        raise typer.BadParameter(
            "the first token is an operator's: --tenant '*' --role admin; make others through the store",
            param_hint="--data-dir, --database-url",
        )
    arguments = ["--description", description, "--ttl-s", str(ttl_s)]
    if data_dir:
        arguments += ["--data-dir", data_dir]
    if database_url:
        arguments += ["--database-url", database_url]
    run_first_token([*arguments, *(["--json"] if json else [])], "multilora token create")


def list_tokens(
    tenant: _Tenant = "*", store: Store = STORE, server: NoServer = "", json: Json = False
) -> None:
    """List tokens; a secret cannot be shown again.

    multilora token list --tenant acme
    """

    async def work() -> list[Token]:
        async with open_store(store) as client:
            return await client.list_tokens(tenant)

    tokens = wait(work())
    if json:
        print_json(tokens)
        return
    print_table(
        ("TOKEN", "TENANT", "ROLE", "CREATED", "BY", "EXPIRES", "REVOKED", "DESCRIPTION"),
        (
            (
                each.token_id,
                each.tenant.removeprefix("tenants/"),
                each.role.lower(),
                time_text(each.create_time),
                each.created_by,
                time_text(each.expire_time) or "never",
                time_text(each.revoke_time),
                each.description,
            )
            for each in tokens
        ),
    )


def revoke(
    token_id: Annotated[str, typer.Argument(metavar="TOKEN", help="Its id, from: multilora token list.")],
    store: Store = STORE,
    server: NoServer = "",
    json: Json = False,
) -> None:
    """Make a token no good from now on.

    multilora token revoke 4c8a0e51b2d7
    """

    async def work() -> Token:
        async with open_store(store) as client:
            return await client.revoke_token(token_id)

    revoked = wait(work())
    if json:
        print_json(revoked)
        return
    print(f"token {revoked.token_id} of {revoked.tenant} was revoked at {time_text(revoked.revoke_time)}")
