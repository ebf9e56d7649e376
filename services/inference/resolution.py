"""What an adapter's name means at one moment. Must not know torch, gRPC or the wire."""

from dataclasses import dataclass

from services.inference.request import ResolvedAdapter


@dataclass(frozen=True, slots=True)
class ShadowTarget:
    """The version that a share `sample_rate` of the requests runs on as well, by full name."""

    version_name: str
    sample_rate: float


@dataclass(frozen=True, slots=True)
class Resolution:
    """The version for one request; `targets` are the (version, weight) that share the name's traffic."""

    adapter: ResolvedAdapter
    targets: tuple[tuple[int, int], ...] = ()
    shadow: ShadowTarget | None = None


@dataclass(frozen=True, slots=True)
class StoreStats:
    """How the service stands with its store; the fields are the wire's."""

    connected: bool
    disconnected_s: float
    changes_seen: int
    resolve_hits: int
    resolve_calls: int
    stale_resolves: int
