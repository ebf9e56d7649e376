"""Who may import next: one tenant leaves a thread to the others, who waits holds none. Knows no import."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from services.common.tenant_shares import TenantShares

# Of one store; further ones wait. Each holds a thread and one chunk.
MAX_IMPORTS = 4

T = TypeVar("T")


class ImportThreads:
    """`max_imports` threads, of which one tenant gets all but one."""

    def __init__(self, max_imports: int = MAX_IMPORTS) -> None:
        self._threads = ThreadPoolExecutor(max_imports, "import")
        self._places = asyncio.Semaphore(max_imports)
        self._shares = TenantShares(max(1, max_imports - 1))

    async def start(self, tenant: str, work: Callable[[], T]) -> asyncio.Future[T]:
        """Begins `work` once a thread is free; whoever leaves before that has begun nothing.

        The thread is taken until `work` is over, also if nobody waits for it any more. The future must not
        be cancelled: nothing stops a thread.
        """
        share = self._shares.of(tenant)
        # The tenant's own first: who has enough of them must not stand before others.
        await share.acquire()
        try:
            await self._places.acquire()
        except BaseException:
            share.release()
            raise
        running = asyncio.get_running_loop().run_in_executor(self._threads, work)

        def over(_: Any) -> None:
            self._places.release()
            share.release()

        running.add_done_callback(over)
        return running
