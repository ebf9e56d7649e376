"""Opaque page tokens over a list sorted by name.

Must not know what is listed.
"""

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import TypeVar

from services.common.errors import invalid_field

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 1000

T = TypeVar("T")


def take_page(
    items: Sequence[T], name_of: Callable[[T], str], page_size: int, page_token: str
) -> tuple[list[T], str]:
    """One page of `items` (sorted by name) and the token of the next, empty at the end.

    Raises ServiceError INVALID_ARGUMENT naming `page_size` or `page_token`.
    """
    if page_size < 0:
        raise invalid_field("page_size", "must not be negative; 0 means 50")
    size = min(page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
    after = _name_in(page_token)
    rest = [item for item in items if name_of(item) > after]
    page = rest[:size]
    if len(rest) <= size:
        return page, ""
    return page, base64.urlsafe_b64encode(name_of(page[-1]).encode()).decode()


def _name_in(page_token: str) -> str:
    try:
        return base64.b64decode(page_token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise invalid_field(
            "page_token", "is none of ours: send the next_page_token of the page before"
        ) from error
