"""`python -m services.adapter_store first-token`: the first operator's token, straight into the database.

Whoever can do this has the database, and with it everything. It works while no operator's token is good,
beside a store that runs as well.
"""

import contextlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from services.adapter_store.catalog import Tokens
from services.adapter_store.database_settings import DatabaseSettings
from services.adapter_store.domain.actor import Actor
from services.adapter_store.store import open_database, utc_now
from services.common.errors import ServiceError
from services.common.settings import parse, setting


@dataclass(frozen=True, slots=True)
class FirstTokenSettings(DatabaseSettings):
    """Which database, and what the token is to be."""

    description: str = setting("", help="what the token is for")
    ttl_s: int = setting(0, help="seconds until it expires; 0: never")
    json: bool = setting(False, help="print JSON, for scripts")


def main(argv: Sequence[str], prog: str) -> int:
    """Prints the secret, this once. 0: made; 1: refused or no database; 2: wrong usage."""
    settings = parse(
        FirstTokenSettings,
        argv,
        prog=prog,
        description="Makes the first operator's token (tenants/*, ADMIN) in a store's own database.",
    )
    try:
        with contextlib.closing(open_database(settings)) as database:
            secret, token = Tokens(database, utc_now).create_first(
                settings.description, settings.ttl_s, Actor("database", "CreateToken")
            )
    except ServiceError as error:
        print(f"{prog}: {error.message}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 1
    if settings.json:
        print(json.dumps({"secret": secret, "token_id": token.id, "tenant": "tenants/*", "role": token.role}))
        return 0
    print(secret)
    print(f"token {token.id}: ADMIN in tenants/*. Keep it now: it cannot be shown again.", file=sys.stderr)
    return 0
