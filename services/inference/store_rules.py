"""Signing rules as the store knows them: remembered until they change, or the store's changes are missed.

Pure state but for one question to the store.
"""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from services.common.errors import Code, ServiceError
from services.inference.signing_rules import SigningRules

# Also where no change is heard a key that was taken back is no good after this time.
FRESH_S = 30.0
MAX_TENANTS = 100_000


class StoreRules:
    """A RulesSource and a ChangeListener. While the store does not answer, what it last said holds."""

    def __init__(
        self,
        fetch: Callable[[str], Awaitable[SigningRules]],
        *,
        max_tenants: int = MAX_TENANTS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._max_tenants = max_tenants
        self._clock = clock
        # With when each was asked for; an answer that a change may have overtaken is old at once.
        self._known: OrderedDict[str, tuple[SigningRules, float]] = OrderedDict()
        self._num_changes = 0

    async def rules(self, tenant: str) -> SigningRules:
        """See RulesSource."""
        known = self._known.get(tenant)
        if known is not None and self._clock() - known[1] < FRESH_S:
            self._known.move_to_end(tenant)
            return known[0]
        asked_s, num_changes = self._clock(), self._num_changes
        try:
            rules = await self._fetch(tenant)
        except ServiceError as error:
            if known is None or error.code is not Code.UNAVAILABLE:
                raise
            return known[0]
        is_current = num_changes == self._num_changes
        self._known[tenant] = rules, asked_s if is_current else float("-inf")
        self._known.move_to_end(tenant)
        if len(self._known) > self._max_tenants:
            self._known.popitem(last=False)
        return rules

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
            self._known[tenant] = self._known[tenant][0], float("-inf")
