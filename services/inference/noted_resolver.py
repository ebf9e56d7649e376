"""Says of each adapter that a name meant that it is about to be used."""

from collections.abc import Callable

from services.inference.admission import AdapterResolver
from services.inference.resolution import Resolution, StoreStats


class NotedResolver:
    """An AdapterResolver in front of another."""

    def __init__(self, resolver: AdapterResolver, note: Callable[[str], None]) -> None:
        self._resolver = resolver
        self._note = note

    async def resolve(self, name: str, split_key: str = "") -> Resolution:
        """What `name` means now."""
        resolution = await self._resolver.resolve(name, split_key)
        self._note(resolution.adapter.key)
        return resolution

    def stats(self) -> StoreStats:
        """How the service stands with its store."""
        return self._resolver.stats()
