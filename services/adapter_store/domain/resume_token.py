"""Where a watcher is in the stream of changes, as an opaque token."""

import base64
import binascii
import json
from dataclasses import dataclass

from services.common.errors import invalid_field

MAX_TOKEN_CHARS = 256
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Position:
    """After change `sequence` of the database that calls itself `database_id`."""

    database_id: str
    sequence: int


def encode(position: Position) -> str:
    """The token of a position."""
    text = json.dumps([_FORMAT, position.database_id, position.sequence], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(token: str) -> Position:
    """The position of a token. Raises INVALID_FIELD for what no store gave out."""
    bad = invalid_field(
        "resume_token", "is no token of Watch: pass resume_token as it came, or nothing to start from now"
    )
    if len(token) > MAX_TOKEN_CHARS:
        raise bad
    try:
        padded = token.encode("ascii") + b"=" * (-len(token) % 4)
        values = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError) as error:
        raise bad from error
    if not isinstance(values, list) or [type(value) for value in values] != [int, str, int]:
        raise bad
    number, database_id, sequence = values
    if number != _FORMAT or not 0 <= sequence < 1 << 63:
        raise bad
    return Position(database_id, sequence)
