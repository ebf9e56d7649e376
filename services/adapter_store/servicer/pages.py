"""One page of a list as messages: as many of its rows as fit one gRPC message. Decides nothing else."""

from collections.abc import Callable
from typing import TypeVar

from google.protobuf.message import Message

from services.adapter_store.domain.listing import Listing

# Peers take messages of 4 MiB. One row is far below that, whatever its fields hold.
MAX_PAGE_BYTES = 3 << 20

T = TypeVar("T")
M = TypeVar("M", bound=Message)


def fit_page(page: Listing[T], to_message: Callable[[T], M]) -> tuple[list[M], str]:
    """Messages of the first rows of `page`, at least one, and the token that goes on after them."""
    messages: list[M] = []
    num_bytes = 0
    for row in page.rows:
        message = to_message(row)
        num_bytes += message.ByteSize()
        if messages and num_bytes > MAX_PAGE_BYTES:
            break
        messages.append(message)
    return messages, page.tokens[len(messages) - 1] if messages else ""
