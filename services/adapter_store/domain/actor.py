"""Who makes a change, and by which call: what the audit log says of it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Actor:
    """`name` is a token's id, or the peer's address where access control is off; `action` is the RPC."""

    name: str
    action: str


# The store's own doing: recovery, garbage collection.
STORE = Actor("store", "")
