"""An adapter: a named lineage of versions, with its movable aliases."""

from dataclasses import dataclass
from datetime import datetime

from services.adapter_store.domain.alias import Alias
from services.adapter_store.domain.fields import quoted
from services.adapter_store.domain.names import AdapterName
from services.common.errors import Code, Reason, ServiceError

MAX_DISPLAY_NAME_CHARS = 128
MAX_DESCRIPTION_CHARS = 4096
# All of them travel with the adapter, in every answer that shows it.
MAX_ALIASES = 1000


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


def stale_etag(etag: str, adapter: Adapter) -> ServiceError:
    """STALE_ETAG: `adapter` is not what the caller has seen."""
    return ServiceError(
        Code.ABORTED,
        Reason.STALE_ETAG,
        f"{adapter.name} was changed by somebody else (etag {adapter.etag}, not {quoted(etag)}): "
        "read it again, then repeat the call",
        field="adapter.etag",
        metadata={"etag": adapter.etag},
    )
