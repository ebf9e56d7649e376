"""Tenants' settings as the store knows them: remembered until they change, or the store's changes are missed.

Pure state but for one question to the store.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from services.common.errors import Code, ServiceError
from services.inference.signing_rules import SigningRules
from services.inference.tenant_traffic import TenantQuotas

# Also where no change is heard a new quota holds, and a key that was taken back is no good, after this time.
FRESH_S = 30.0
MAX_TENANTS = 100_000


@dataclass(frozen=True, slots=True)
class TenantSettings:
    """What the store says of one tenant."""

    quotas: TenantQuotas = field(default_factory=TenantQuotas)
    signing: SigningRules = field(default_factory=SigningRules)


class FetchTenant(Protocol):
    """Asks the store; where the answer `is_known`, not for longer than that is of use."""

    async def __call__(self, name: str, *, is_known: bool) -> TenantSettings:
        """Raises STORE_UNAVAILABLE if there is no answer."""
        ...


@dataclass(slots=True)
class _Known:
    settings: TenantSettings
    checked_s: float


class TenantDirectory:
    """Asks the store by `fetch`. While the store does not answer, what it last said holds.

    A RulesSource and a ChangeListener.
    """

    def __init__(
        self,
        fetch: FetchTenant,
        *,
        max_tenants: int = MAX_TENANTS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._max_tenants = max_tenants
        self._clock = clock
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._num_changes = 0

    async def quotas(self, tenant: str) -> TenantQuotas:
        """The tenant's quotas. Raises STORE_UNAVAILABLE if they were never heard."""
        return (await self._settings(tenant)).quotas

    async def rules(self, tenant: str) -> SigningRules:
        """See RulesSource."""
        return (await self._settings(tenant)).signing

    async def _settings(self, tenant: str) -> TenantSettings:
        known = self._known.get(tenant)
        if known is not None and self._clock() - known.checked_s < FRESH_S:
            self._known.move_to_end(tenant)
            return known.settings
        asked_s, num_changes = self._clock(), self._num_changes
        try:
            settings = await self._fetch(tenant, is_known=known is not None)
        except ServiceError as error:
            if known is None or error.code is not Code.UNAVAILABLE:
                raise
            return known.settings
        # An answer that a change may have overtaken is asked for again by the next request.
        is_current = num_changes == self._num_changes
        self._remember(tenant, _Known(settings, asked_s if is_current else float("-inf")))
        return settings

    def change(self, kind: str, name: str) -> None:
        """See ChangeListener."""
        if kind == "TENANT_UPDATED":
            self._num_changes += 1
            self._outdate(name.removeprefix("tenants/"))

    def forget_all(self) -> None:
        """See ChangeListener: everything is asked for again."""
        self._num_changes += 1
        for tenant in self._known:
            self._outdate(tenant)

    def _outdate(self, tenant: str) -> None:
        if tenant in self._known:
            self._known[tenant].checked_s = float("-inf")

    def _remember(self, tenant: str, known: _Known) -> None:
        self._known[tenant] = known
        self._known.move_to_end(tenant)
        if len(self._known) > self._max_tenants:
            self._known.popitem(last=False)

    def check_integrity(self) -> None:
        """Raises AssertionError unless no more is remembered than may be."""
        assert len(self._known) <= self._max_tenants, f"{len(self._known)} tenants"

    def __repr__(self) -> str:
        return f"TenantDirectory(tenants={len(self._known)})"
