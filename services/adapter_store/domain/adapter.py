"""An adapter: a named lineage of versions, with its movable aliases."""

from dataclasses import dataclass
from datetime import datetime

from services.adapter_store.domain.names import AdapterName

MAX_DISPLAY_NAME_CHARS = 128
MAX_DESCRIPTION_CHARS = 4096
# All of them travel with the adapter, in every answer that shows it.
MAX_ALIASES = 1000


@dataclass(frozen=True, slots=True)
class Alias:
    """A movable pointer to one version."""

    name: str
    version: int
    update_time: datetime


@dataclass(frozen=True, slots=True)
class AliasMove:
    """One move of an alias: from_version 0 is its creation, to_version 0 its deletion."""

    id: int
    from_version: int
    to_version: int
    time: datetime
    moved_by: str


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter with what points into it now. `id` is the store's own and never leaves it."""

    id: int
    name: AdapterName
    base_model: str
    display_name: str
    description: str
    labels: dict[str, str]
    revision: int
    create_time: datetime
    update_time: datetime
    aliases: tuple[Alias, ...] = ()
    latest_version: int = 0

    @property
    def etag(self) -> str:
        """Changes with every update."""
        return f"r{self.revision}"
