"""How the store stops: in what order its calls and its watchers are let go. Must not know any other RPC."""

from services.adapter_store.servicer.watches import Watches
from services.common.running_calls import RunningCalls


class Drain:
    """Of one server; its Watch calls are not among `calls`, for they have no end."""

    def __init__(self, calls: RunningCalls, watches: Watches) -> None:
        self._calls = calls
        self._watches = watches

    async def prepare(self) -> None:
        """Returns when callers have gone elsewhere, and watchers are told to: now they find another store."""
        await self._calls.linger()
        self._watches.close()

    async def finish(self) -> None:
        """Returns when every call has ended."""
        await self._calls.finish()
