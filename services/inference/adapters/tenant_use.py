"""What one tenant has of an adapter whose bytes others may use as well. Must not decide anything."""

from dataclasses import dataclass, field

from services.common.errors import ServiceError
from services.inference.messages import ResidencyState
from services.inference.request import ResolvedAdapter


@dataclass(frozen=True, slots=True)
class LoadCall:
    """An operator who waits until the adapter is at `tier` (HOST or DEVICE)."""

    tier: ResidencyState
    pin: bool


@dataclass(slots=True)
class TenantUse:
    """One tenant's requests, calls and pin of one adapter.

    `adapter` is the version as the tenant asked for it last. While `is_in_pool` the adapter's pages count for
    the tenant; they may be there for others alone. `pin` is the tier it must not fall below. `waiting` is in
    order of arrival.
    """

    adapter: ResolvedAdapter
    last_used_s: float
    waiting: dict[str, None] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)
    loads: dict[int, LoadCall] = field(default_factory=dict)
    unloads: dict[int, ResidencyState] = field(default_factory=dict)
    pin: ResidencyState | None = None
    error: ServiceError | None = None
    is_in_pool: bool = False

    @property
    def tenant(self) -> str:
        """Whose use it is."""
        return self.adapter.tenant

    @property
    def is_wanted(self) -> bool:
        """Whether a request or an operator waits for the adapter."""
        return bool(self.waiting or self.loads)

    @property
    def is_idle(self) -> bool:
        """Whether nobody of the tenant runs it, waits for it, or is to be answered about it."""
        return not (self.waiting or self.running or self.loads or self.unloads)

    def check_integrity(self, who: str) -> None:
        """Raises AssertionError unless what it says of itself agrees."""
        assert not self.running & self.waiting.keys(), f"{who}: a request both waits and runs"
        assert not self.running or self.is_in_pool, f"{who}: requests run"
        assert not self.error or self.waiting, f"{who}: an error for nobody"
        assert self.pin is not ResidencyState.DEVICE or self.is_in_pool, f"{who}: pinned to the pool"
