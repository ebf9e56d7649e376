"""Finds out who calls, from the call's metadata. Must not know what callers may do, nor log a secret."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from services.common.authorized_channel import HEADER
from services.common.caller import Caller, anyone
from services.common.errors import Code, Reason, ServiceError

SCHEME = "bearer"
MAX_SECRET_CHARS = 256

Metadata = Iterable[tuple[str, str | bytes]]


class Gate(Protocol):
    """Says who calls."""

    async def caller(self, metadata: Metadata, peer: str) -> Caller:
        """Raises ServiceError UNAUTHENTICATED."""
        ...


class OpenGate:
    """Access control is off: everybody may do everything, under the address he calls from."""

    async def caller(self, metadata: Metadata, peer: str) -> Caller:
        """The peer."""
        return anyone(peer)


class TokenGate:
    """Takes `authorization: Bearer TOKEN`. `authenticate` knows tokens, and raises BAD_TOKEN."""

    def __init__(self, authenticate: Callable[[str], Awaitable[Caller]]) -> None:
        self._authenticate = authenticate

    async def caller(self, metadata: Metadata, peer: str) -> Caller:
        """The token's holder. Raises NO_TOKEN, BAD_TOKEN."""
        return await self._authenticate(_secret(metadata))


def _secret(metadata: Metadata) -> str:
    values = [value for key, value in metadata if key.lower() == HEADER]
    if not values:
        raise _no_token("no token came with the call")
    scheme, _, secret = str(values[0]).partition(" ")
    if len(values) > 1 or scheme.lower() != SCHEME or not secret.strip():
        raise _no_token("its `authorization` is no `Bearer TOKEN`")
    if len(secret) > MAX_SECRET_CHARS:
        raise bad_token("it is too long to be one")
    return secret.strip()


def _no_token(what: str) -> ServiceError:
    return ServiceError(
        Code.UNAUTHENTICATED,
        Reason.NO_TOKEN,
        f"access control is on, and {what}: send `authorization: Bearer TOKEN` (the command: "
        "--token-file or MULTILORA_TOKEN_FILE)",
    )


def bad_token(why: str) -> ServiceError:
    """The token is no good (any more). Its holder may know why."""
    return ServiceError(
        Code.UNAUTHENTICATED, Reason.BAD_TOKEN, f"the token is not good: {why}; ask an admin for a new one"
    )
