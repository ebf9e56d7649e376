"""Lists, page by page. Knows no RPC in particular."""

from collections.abc import AsyncIterator
from typing import Any

from client.errors import rpc_errors

PAGE_SIZE = 1000


async def pages(rpc: Any, request: Any) -> AsyncIterator[Any]:
    """Every page of a list call, from `request`, whose page_token is overwritten."""
    while True:
        with rpc_errors():
            response = await rpc(request)
        yield response
        if not response.next_page_token:
            return
        request.page_token = response.next_page_token
