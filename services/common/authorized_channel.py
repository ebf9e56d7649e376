"""A gRPC channel that sends a token with every call; for the services and the Python client alike.

Must not import anything of ours, nor what a client-only install lacks: it is the one module of the chassis
that the client imports.
"""

from collections.abc import Callable
from typing import Any

HEADER = "authorization"

Metadata = tuple[tuple[str, str], ...]


def is_token(text: str) -> bool:
    """Whether `text` can be sent as one."""
    return bool(text) and text.isascii() and text.isprintable() and " " not in text


def bearer(token: str) -> Metadata:
    """What a call carries to show `token`."""
    return ((HEADER, f"Bearer {token}"),)


class AuthorizedChannel:
    """A channel whose every call also carries what `metadata` returns at that moment."""

    def __init__(self, channel: Any, metadata: Callable[[], Metadata]) -> None:
        self._channel = channel
        self._metadata = metadata

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._channel, name)
        return self._wrap(member) if name.endswith(("_unary", "_stream")) else member

    def _wrap(self, make_call: Callable[..., Any]) -> Callable[..., Any]:
        def make(*arguments: Any, **named: Any) -> Callable[..., Any]:
            call = make_call(*arguments, **named)

            def authorized(*arguments: Any, metadata: Any = (), **named: Any) -> Any:
                return call(*arguments, metadata=(*(metadata or ()), *self._metadata()), **named)

            return authorized

        return make
