"""What every RPC of the store does: runs synchronous code in threads, and says who asked."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import grpc

from services.adapter_store.domain.actor import Actor
from services.adapter_store.metadata import repeated
from services.common.access_guard import caller_of

T = TypeVar("T")
Context = grpc.aio.ServicerContext[Any, Any]


def actor_of(context: Context, action: str) -> Actor:
    """The caller of `context`, as the audit log names it."""
    return Actor(caller_of(context).name, action)


async def call(function: Callable[..., T], *arguments: Any, **named: Any) -> T:
    """Runs the store's synchronous code off the event loop; again where another transaction was faster."""
    return await asyncio.to_thread(repeated, function, *arguments, **named)
