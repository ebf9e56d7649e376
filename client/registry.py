"""What the adapter store keeps: base models, adapters, their versions and aliases."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class VersionState(StrEnum):
    """CREATING -> ACTIVE or FAILED, ACTIVE <-> DISABLED, any -> DELETED."""

    VERSION_STATE_UNSPECIFIED = "VERSION_STATE_UNSPECIFIED"
    CREATING = "CREATING"
    ACTIVE = "ACTIVE"
    FAILED = "FAILED"
    DISABLED = "DISABLED"
    DELETED = "DELETED"


@dataclass(frozen=True, slots=True)
class Module:
    """A linear (or embedding) of a base model that LoRA may target."""

    name: str
    in_features: int
    out_features: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseModel:
    """A base model that uploads are checked against."""

    base_model: str
    digest: str
    architecture: str
    hidden_size: int
    num_layers: int
    modules: tuple[Module, ...]
    max_rank: int


@dataclass(frozen=True, slots=True)
class TrafficTarget:
    """One version that a split alias sends requests to, in proportion to the weights."""

    version: int
    weight: int


@dataclass(frozen=True, slots=True)
class Shadow:
    """A version that a sampled copy of the requests runs on; its tokens are discarded."""

    version: int
    sample_rate: float


@dataclass(frozen=True, slots=True)
class Alias:
    """A movable name for one version, or for several that share its traffic (`version` is the first)."""

    name: str
    version: int
    update_time: datetime | None
    targets: tuple[TrafficTarget, ...] = ()
    shadow: Shadow | None = None
    revision: int = 0


@dataclass(frozen=True, slots=True)
class AliasMove:
    """One entry of an alias's history; version 0 means that it did not exist."""

    from_version: int
    to_version: int
    time: datetime | None
    moved_by: str
    to_targets: tuple[TrafficTarget, ...] = ()
    to_shadow: Shadow | None = None
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Adapter:
    """A named LoRA lineage; `latest_version` is the highest ACTIVE one, 0 if there is none."""

    name: str
    base_model: str
    display_name: str
    description: str
    labels: dict[str, str]
    aliases: tuple[Alias, ...]
    latest_version: int
    etag: str
    create_time: datetime | None
    update_time: datetime | None


@dataclass(frozen=True, slots=True)
class VersionFile:
    """One file of a version; sha256 in hex."""

    path: str
    size_bytes: int
    sha256: str
    read_url: str = ""
    read_url_expire_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Flags:
    """Which LoRA variant a version is."""

    rslora: bool
    dora: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """Where a version came from; all of it optional."""

    run_id: str = ""
    parent_version: str = ""
    dataset: str = ""
    notes: str = ""


@dataclass(frozen=True, slots=True)
class Signature:
    """Ed25519 over a version's manifest, by one of the tenant's trusted keys."""

    key_id: str
    signature: bytes


@dataclass(frozen=True, slots=True)
class AdapterVersion:
    """Immutable weights and config. `key` is the content digest: the same bytes have the same key."""

    name: str
    version: int
    key: str
    state: VersionState
    status_message: str
    files: tuple[VersionFile, ...]
    rank: int
    alpha: float
    target_modules: tuple[str, ...]
    flags: Flags
    num_parameters: int
    size_bytes: int
    labels: dict[str, str]
    lineage: Lineage
    create_time: datetime | None
    base_model: str
    signature: Signature | None = None
    targets: tuple[TrafficTarget, ...] = ()
    shadow: Shadow | None = None
    base_model_digest: str = ""


@dataclass(frozen=True, slots=True)
class CollectGarbageResponse:
    """What one collection found, and freed unless it was a dry run.

    `orphaned_blobs` are those of `freed_blobs` that no row knew; `missing_sha256s` are damage.
    """

    freed_blobs: int
    freed_bytes: int
    orphaned_blobs: int
    missing_sha256s: tuple[str, ...]
    expired_uploads: int


@dataclass(frozen=True, slots=True)
class Lease:
    """AdapterKeys whose bytes are kept until `expire_time`, whatever becomes of their versions."""

    lease_id: str
    holder: str
    num_keys: int
    expire_time: datetime | None


class ChangeKind(StrEnum):
    """What happened to the thing that a change names."""

    CHANGE_KIND_UNSPECIFIED = "CHANGE_KIND_UNSPECIFIED"
    VERSION_ACTIVE = "VERSION_ACTIVE"
    VERSION_DISABLED = "VERSION_DISABLED"
    VERSION_DELETED = "VERSION_DELETED"
    ALIAS_CHANGED = "ALIAS_CHANGED"
    ADAPTER_DELETED = "ADAPTER_DELETED"
    TENANT_UPDATED = "TENANT_UPDATED"
    TOKEN_REVOKED = "TOKEN_REVOKED"


@dataclass(frozen=True, slots=True)
class Change:
    """One change that was committed; `name` is a full resource name, or a token's id."""

    kind: ChangeKind
    name: str
    time: datetime | None


@dataclass(frozen=True, slots=True)
class ChangeBatch:
    """Changes in the order of their commits, and the token to go on from after them.

    `reset`: what came before is not known, so whatever was remembered is stale. `caught_up`: no change that
    was committed before this is still to come.
    """

    changes: tuple[Change, ...]
    resume_token: str
    reset: bool
    caught_up: bool
