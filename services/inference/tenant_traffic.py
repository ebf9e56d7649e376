"""What each tenant has in the queue and has spent of its tokens a minute, held to the tenant's quotas.

Pure state of the front end: every method is immediate. Must not know where quotas come from, nor requests.

Tokens are a bucket that holds a minute's worth and fills evenly. A request may start while the bucket is not
empty; its prompt and each generated token are taken out, so that a running stream is never cut, and what it
takes too much is waited for by those after it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from services.common.errors import Code, Reason, ServiceError

SECONDS_A_MINUTE = 60.0
QUEUE_RETRY_S = 1.0
MIN_SWEEP = 64


@dataclass(frozen=True, slots=True)
class TenantQuotas:
    """The most that a tenant may use of this server; 0 is no limit."""

    max_queued_requests: int = 0
    max_tokens_per_minute: int = 0
    max_resident_bytes: int = 0


@dataclass(slots=True)
class _Tenant:
    """`level` is what the bucket held at `level_s`, for a minute's worth of `capacity`; 0 has no bucket."""

    num_queued: int = 0
    num_live: int = 0
    capacity: int = 0
    level: float = 0.0
    level_s: float = 0.0


class TenantTraffic:
    """All tenants that have requests here, or have spent tokens that are not filled up again."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tenants: dict[str, _Tenant] = {}
        self._sweep_at = MIN_SWEEP

    def admit(self, name: str, quotas: TenantQuotas, num_prompt_tokens: int) -> "Ticket":
        """Counts one more request, queued. Raises QUOTA_EXCEEDED naming the quota."""
        if len(self._tenants) >= self._sweep_at:
            self._sweep()
        tenant = self._tenants.get(name) or _Tenant()
        self._fill(tenant, quotas.max_tokens_per_minute)
        most = quotas.max_queued_requests
        if most and tenant.num_queued >= most:
            raise _exceeded(name, "max_queued_requests", most, QUEUE_RETRY_S, "requests are waiting")
        if tenant.capacity and tenant.level <= 0:
            wait_s = (1 - tenant.level) * SECONDS_A_MINUTE / tenant.capacity
            raise _exceeded(name, "max_tokens_per_minute", tenant.capacity, wait_s, "tokens were used up")
        self._tenants[name] = tenant
        tenant.num_queued += 1
        tenant.num_live += 1
        tenant.level -= num_prompt_tokens
        return Ticket(tenant)

    def _fill(self, tenant: _Tenant, capacity: int) -> None:
        now_s = self._clock()
        if capacity != tenant.capacity:
            # A new quota starts with a full bucket; what was spent under another one is no measure for it.
            tenant.capacity, tenant.level = capacity, float(capacity)
        elif capacity:
            gained = (now_s - tenant.level_s) * capacity / SECONDS_A_MINUTE
            tenant.level = min(float(capacity), tenant.level + gained)
        tenant.level_s = now_s

    def _sweep(self) -> None:
        """Drops who left no trace; so rarely that a request costs the same however many tenants there are."""
        idle = [name for name, tenant in self._tenants.items() if not tenant.num_live]
        for name in idle:
            tenant = self._tenants[name]
            self._fill(tenant, tenant.capacity)
            if not tenant.capacity or tenant.level >= tenant.capacity:
                del self._tenants[name]
        self._sweep_at = max(MIN_SWEEP, 2 * len(self._tenants))

    def check_integrity(self) -> None:
        """Raises AssertionError unless the counts are such as can be."""
        for name, tenant in self._tenants.items():
            assert 0 <= tenant.num_queued <= tenant.num_live, f"{name}: {tenant}"
            assert tenant.level <= tenant.capacity, f"{name}: {tenant}"

    def check_idle(self) -> None:
        """Raises AssertionError if a request is still counted."""
        self.check_integrity()
        left = {name: tenant.num_live for name, tenant in self._tenants.items() if tenant.num_live}
        assert not left, f"requests are still counted: {left}"

    def __repr__(self) -> str:
        live = sum(tenant.num_live for tenant in self._tenants.values())
        queued = sum(tenant.num_queued for tenant in self._tenants.values())
        return f"TenantTraffic(tenants={len(self._tenants)}, live={live}, queued={queued})"


class Ticket:
    """One request that was admitted. `end` must be called; the rest may be."""

    def __init__(self, tenant: _Tenant) -> None:
        self._tenant = tenant
        self._is_queued = True
        self._is_live = True

    def start(self) -> None:
        """The request waits no more."""
        if self._is_queued:
            self._is_queued = False
            self._tenant.num_queued -= 1

    def spend(self, num_tokens: int) -> None:
        """The request generated tokens."""
        self._tenant.level -= num_tokens

    def end(self) -> None:
        """The request is gone. May be called again."""
        if self._is_live:
            self.start()
            self._is_live = False
            self._tenant.num_live -= 1


def _exceeded(name: str, quota: str, most: int, retry_after_s: float, what: str) -> ServiceError:
    return ServiceError(
        Code.RESOURCE_EXHAUSTED,
        Reason.QUOTA_EXCEEDED,
        f"{most} {what}, which is {quota} of tenants/{name} at this server: try again in {retry_after_s:.1f} "
        "s, or ask an operator for more",
        retry_after_s=retry_after_s,
        metadata={"quota": quota, "limit": str(most)},
    )
