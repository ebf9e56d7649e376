"""What the service asks of the adapter store. Must not know the wire."""

from collections.abc import Sequence
from typing import Protocol

from services.common.caller import Caller
from services.inference.adapters.store_watch import ChangeListener
from services.inference.admission import AdapterResolver
from services.inference.lease_keeper import LeaseStore
from services.inference.model.config import ModelConfig
from services.inference.tenant_directory import TenantSettings


class Store(AdapterResolver, LeaseStore, Protocol):
    """What the service asks of the adapter store."""

    async def register_base_model(self, name: str, digest: str, config: ModelConfig, max_rank: int) -> None:
        """Tells the store what uploads are checked against. Raises ServiceError."""
        ...

    async def authenticate(self, secret: str, *, is_known: bool = False) -> Caller:
        """Whose token it is. Raises BAD_TOKEN, STORE_UNAVAILABLE.

        The latter at once if the store is silent and that `is_known`.
        """
        ...

    async def tenant(self, name: str, *, is_known: bool = False) -> TenantSettings:
        """What the tenant may use of this server and whose signatures it trusts. Raises STORE_UNAVAILABLE.

        At once if the store is silent and that `is_known`.
        """
        ...

    async def watch(self, listeners: Sequence[ChangeListener] = ()) -> None:
        """Hears what changes there until it is cancelled; so do `listeners`."""
        ...

    async def close(self) -> None:
        """Closes the connection."""
        ...
