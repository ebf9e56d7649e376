"""One screenful of a list: page sizes, and opaque tokens that say where the next one starts.

Keyset, not offset: a token holds the last row's key, so rows added or gone never shift a list.
"""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, overload

from services.common.errors import invalid_field

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 1000
MAX_TOKEN_CHARS = 2048

T = TypeVar("T")
Key = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """Rows of one call, and for each the token that goes on after it: empty after the last there is."""

    rows: tuple[T, ...]
    tokens: Sequence[str]

    @property
    def next_page_token(self) -> str:
        """The token that goes on after all of `rows`."""
        return self.tokens[-1] if self.tokens else ""


def check_page_size(page_size: int) -> int:
    """The most rows to give; 0 means the default, too many the most there are. Raises INVALID_FIELD."""
    if page_size < 0:
        raise invalid_field("page_size", f"is {page_size}: must not be negative; 0 means {DEFAULT_PAGE_SIZE}")
    return min(page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


def list_page(
    scope: str,
    page_size: int,
    page_token: str,
    key_example: Key,
    fetch: Callable[[Key | None, int], Sequence[T]],
    key_of: Callable[[T], Key],
) -> Listing[T]:
    """One page of the list that `scope` names.

    `fetch(after, limit)` gives up to `limit` rows after the key; `key_example` has the types of a key.
    Raises INVALID_FIELD on a bad size, or a token that is not of this list.
    """
    limit = check_page_size(page_size)
    after = _decode(scope, page_token, key_example) if page_token else None
    rows = fetch(after, limit + 1)
    more = len(rows) > limit
    rows = tuple(rows[:limit])
    return Listing(rows, _Tokens(scope, [key_of(row) for row in rows], more))


class _Tokens(Sequence[str]):
    """Made when one is asked for: of a page's tokens a call needs one."""

    def __init__(self, scope: str, keys: Sequence[Key], more: bool) -> None:
        self._scope = scope
        self._keys = keys
        self._more = more

    def __len__(self) -> int:
        return len(self._keys)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        position = range(len(self))[index]
        is_last = position == len(self) - 1
        return "" if is_last and not self._more else _encode(self._scope, self._keys[position])


def _encode(scope: str, key: Key) -> str:
    text = json.dumps([scope, *key], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decode(scope: str, token: str, key_example: Key) -> Key:
    bad = invalid_field(
        "page_token", "is not a token of this list: pass next_page_token as it came, or nothing"
    )
    if len(token) > MAX_TOKEN_CHARS:
        raise bad
    try:
        padded = token.encode("ascii") + b"=" * (-len(token) % 4)
        values = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        # JSON can spell what no database takes. Encoding a lone surrogate raises a ValueError.
        json.dumps(values, ensure_ascii=False).encode()
    except (binascii.Error, ValueError, RecursionError) as error:
        raise bad from error
    if not isinstance(values, list) or len(values) != 1 + len(key_example) or values[0] != scope:
        raise bad
    key = tuple(values[1:])
    for value, example in zip(key, key_example, strict=True):
        if type(value) is not type(example) or (isinstance(value, int) and not 0 <= value < 1 << 63):
            raise bad
        if isinstance(value, str) and "\0" in value:
            raise bad
    return key
