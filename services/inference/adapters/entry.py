"""What residency knows of one adapter. Must not decide anything."""

from dataclasses import dataclass, field

from services.common.errors import ServiceError
from services.inference.messages import AdapterInfo, ResidencyState
from services.inference.request import AdapterKey, ResolvedAdapter

ON_DEVICE = (ResidencyState.LOADING, ResidencyState.DEVICE)


@dataclass(frozen=True, slots=True)
class LoadCall:
    """An operator who waits until the adapter is at `tier` (HOST or DEVICE)."""

    tier: ResidencyState
    pin: bool


@dataclass(slots=True)
class Entry:
    """One adapter that is somewhere here, or wanted.

    `packed_bytes` is the size of its packed pages, on the host and on the device alike, known once
    it was fetched; `host_bytes` is the same while a host copy is held and 0 otherwise. `pages` and
    `adapter_index` (its row of the RankRowTable) are set in LOADING and DEVICE. `pin` is the tier it
    must not fall below. `waiting` is in order of arrival.
    """

    adapter: ResolvedAdapter
    last_used_s: float
    state: ResidencyState = ResidencyState.REMOTE
    waiting: dict[str, None] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)
    loads: dict[int, LoadCall] = field(default_factory=dict)
    unloads: dict[int, ResidencyState] = field(default_factory=dict)
    pin: ResidencyState | None = None
    error: ServiceError | None = None
    num_pages: int = 0
    packed_bytes: int = 0
    host_bytes: int = 0
    pages: tuple[int, ...] = ()
    adapter_index: int | None = None

    @property
    def key(self) -> AdapterKey:
        """The adapter's content digest."""
        return self.adapter.key

    @property
    def is_wanted(self) -> bool:
        """Whether a request or an operator waits for it."""
        return bool(self.waiting or self.loads)

    @property
    def is_evictable(self) -> bool:
        """Whether its pages may be given to others."""
        return self.state is ResidencyState.DEVICE and not self.running and not self.is_page_pinned

    @property
    def is_page_pinned(self) -> bool:
        """Whether a pin keeps it in the pool."""
        return self.state in ON_DEVICE and self.pin is ResidencyState.DEVICE

    @property
    def is_host_copy_spare(self) -> bool:
        """Whether its host copy may be dropped."""
        if self.pin is ResidencyState.HOST:
            return False
        return self.state is ResidencyState.DEVICE or (
            self.state is ResidencyState.HOST and not self.is_wanted
        )

    def info(self) -> AdapterInfo:
        """What an operator sees of it."""
        return AdapterInfo(
            version_name=self.adapter.version_name,
            key=self.key,
            residency=self.state,
            pinned=self.pin is not None,
            rank=self.adapter.rank,
            device_bytes=self.packed_bytes if self.pages else 0,
            host_bytes=self.host_bytes,
            running_requests=len(self.running),
            waiting_requests=len(self.waiting),
            last_used_s=self.last_used_s,
        )

    def check_integrity(self) -> None:
        """Raises AssertionError unless what it says of itself agrees."""
        who = f"{self.adapter.version_name} in {self.state}"
        assert not self.running & self.waiting.keys(), f"{who}: a request both waits and runs"
        assert not self.running or self.state is ResidencyState.DEVICE, f"{who}: requests run"
        assert bool(self.pages) == (self.state in ON_DEVICE), f"{who}: pages {self.pages}"
        assert (self.adapter_index is not None) == (self.state in ON_DEVICE), f"{who}: table row"
        assert self.state is not ResidencyState.HOST or self.host_bytes, f"{who}: no host copy"
        assert self.state is not ResidencyState.LOADING or self.host_bytes, f"{who}: its source was dropped"
        assert self.state not in (ResidencyState.REMOTE, ResidencyState.FETCHING) or not self.host_bytes, (
            f"{who}: has a host copy"
        )
        assert self.state is not ResidencyState.REMOTE or self.is_wanted, f"{who}: nobody wants it"
        assert self.state is not ResidencyState.REMOTE or self.error, f"{who}: wanted, and nobody fetches it"
        assert not self.error or self.waiting, f"{who}: an error for nobody"
        assert (
            not self.unloads
            or self.running
            or self.state in (ResidencyState.FETCHING, ResidencyState.LOADING)
        ), f"{who}: not unloaded"
        assert self.pin is not ResidencyState.DEVICE or self.state is ResidencyState.DEVICE, (
            f"{who}: pinned to the pool"
        )
        assert self.pin is not ResidencyState.HOST or self.host_bytes, f"{who}: pinned to the host"
