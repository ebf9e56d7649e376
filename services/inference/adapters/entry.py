"""What residency knows of one adapter. Must not decide anything."""

from dataclasses import dataclass, field

from services.common.errors import ServiceError
from services.inference.adapters.tenant_use import TenantUse
from services.inference.messages import AdapterInfo, ResidencyState
from services.inference.request import AdapterKey

ON_DEVICE = (ResidencyState.LOADING, ResidencyState.DEVICE)


@dataclass(slots=True)
class Entry:
    """One adapter that is somewhere here, or wanted, and the tenants that use it.

    `packed_bytes` is the size of its packed pages, on the host and on the device alike, known once
    it was fetched; `host_bytes` is the same while a host copy is held and 0 otherwise. `pages` and
    `adapter_index` (its row of the RankRowTable) are set in LOADING and DEVICE. `load_error` is why a load
    whose copies are under way is good for nobody. `fetched_for` is the tenant whose name for it the last
    fetch was by.
    """

    key: AdapterKey
    uses: dict[str, TenantUse] = field(default_factory=dict)
    state: ResidencyState = ResidencyState.REMOTE
    fetched_for: str = ""
    num_pages: int = 0
    packed_bytes: int = 0
    host_bytes: int = 0
    pages: tuple[int, ...] = ()
    adapter_index: int | None = None
    load_error: ServiceError | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether a request or an operator waits for it."""
        return any(use.is_wanted for use in self.uses.values())

    @property
    def is_usable(self) -> bool:
        """Whether a step may use it: it is in the pool, or its copies are ordered before the step."""
        return self.state in ON_DEVICE and self.load_error is None

    @property
    def is_evictable(self) -> bool:
        """Whether its pages may be given to others: not while they are being written."""
        return self.state is ResidencyState.DEVICE and not any(
            use.running or use.pin is ResidencyState.DEVICE for use in self.uses.values()
        )

    @property
    def is_page_pinned(self) -> bool:
        """Whether a pin keeps it in the pool."""
        return self.state in ON_DEVICE and self.is_pinned(ResidencyState.DEVICE)

    @property
    def is_host_copy_spare(self) -> bool:
        """Whether its host copy may be dropped."""
        if self.is_pinned(ResidencyState.HOST):
            return False
        return self.state is ResidencyState.DEVICE or (
            self.state is ResidencyState.HOST and not self.is_wanted
        )

    def is_pinned(self, tier: ResidencyState) -> bool:
        """Whether some tenant's pin is at `tier`."""
        return any(use.pin is tier for use in self.uses.values())

    def is_shared(self, use: TenantUse) -> bool:
        """Whether tenants other than that of `use` have it in the pool."""
        return any(other.is_in_pool for other in self.uses.values() if other is not use)

    def use_of(self, request_id: str) -> TenantUse:
        """The use that a request which waits or runs belongs to."""
        return next(u for u in self.uses.values() if request_id in u.waiting or request_id in u.running)

    def state_for(self, use: TenantUse) -> ResidencyState:
        """Where it is for one tenant: HOST while it is in the pool for others alone."""
        if self.state in ON_DEVICE and not use.is_in_pool:
            return ResidencyState.HOST
        return self.state

    def info(self, use: TenantUse) -> AdapterInfo:
        """What an operator of the use's tenant sees of it."""
        return AdapterInfo(
            version_name=use.adapter.version_name,
            key=self.key,
            residency=self.state_for(use),
            pinned=use.pin is not None,
            rank=use.adapter.rank,
            device_bytes=self.packed_bytes if use.is_in_pool else 0,
            host_bytes=self.host_bytes,
            running_requests=len(use.running),
            waiting_requests=len(use.waiting),
            last_used_s=use.last_used_s,
        )

    def check_integrity(self) -> None:
        """Raises AssertionError unless what it says of itself agrees."""
        is_on_device = self.state in ON_DEVICE
        who = f"{self.key[:12]} in {self.state}"
        for tenant, use in self.uses.items():
            assert use.tenant == tenant, f"{who}: a use is filed under {tenant}"
            self._check_use(use, f"{use.adapter.version_name} in {self.state}")
        assert self.uses, f"{who}: nobody's"
        assert not self.load_error or self.state is ResidencyState.LOADING, f"{who}: an error of no load"
        assert bool(self.pages) == is_on_device, f"{who}: pages {self.pages}"
        assert (self.adapter_index is not None) == is_on_device, f"{who}: table row"
        assert any(use.is_in_pool for use in self.uses.values()) == is_on_device, f"{who}: in the pool"
        assert self.state is not ResidencyState.HOST or self.host_bytes, f"{who}: no host copy"
        assert self.state is not ResidencyState.LOADING or self.host_bytes, f"{who}: its source was dropped"
        assert self.state not in (ResidencyState.REMOTE, ResidencyState.FETCHING) or not self.host_bytes, (
            f"{who}: has a host copy"
        )

    def _check_use(self, use: TenantUse, who: str) -> None:
        use.check_integrity(who)
        assert not use.running or self.is_usable, f"{who}: requests run"
        assert self.state is not ResidencyState.REMOTE or use.error, f"{who}: nobody fetches it"
        assert (
            not use.unloads or use.running or self.state in (ResidencyState.FETCHING, ResidencyState.LOADING)
        ), f"{who}: not unloaded"
        assert use.pin is not ResidencyState.DEVICE or self.state is ResidencyState.DEVICE, (
            f"{who}: pinned to the pool"
        )
        assert use.pin is not ResidencyState.HOST or self.host_bytes, f"{who}: pinned to the host"
        assert (
            use.is_in_pool or self.host_bytes or not use.is_idle or self.state is ResidencyState.FETCHING
        ), f"{who}: a tenant's that has nothing of it"
