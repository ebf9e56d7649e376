"""A version: immutable weights and config, their AdapterKey, and its states."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from services.adapter_store.domain.names import AdapterName
from services.common.errors import Code, Reason, ServiceError
from services.common.manifest_signature import Signature


class VersionState(StrEnum):
    """CREATING -> ACTIVE | FAILED, ACTIVE <-> DISABLED, any -> DELETED."""

    CREATING = "CREATING"
    ACTIVE = "ACTIVE"
    FAILED = "FAILED"
    DISABLED = "DISABLED"
    DELETED = "DELETED"


@dataclass(frozen=True, slots=True)
class VersionFile:
    """One file of a version; `sha256` in hex."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where the weights came from, in the uploader's words."""

    run_id: str = ""
    parent_version: str = ""
    dataset: str = ""
    notes: str = ""


@dataclass(frozen=True, slots=True)
class WeightsSummary:
    """What validation learned of the weights. `rank` is the largest of any module."""

    rank: int
    alpha: float
    target_modules: tuple[str, ...]
    rslora: bool
    dora: bool
    num_parameters: int


@dataclass(frozen=True, slots=True)
class AdapterVersion:
    """One version; `weights` is None until it has been validated."""

    adapter: AdapterName
    version: int
    base_model: str
    key: str
    state: VersionState
    status_message: str
    files: tuple[VersionFile, ...]
    weights: WeightsSummary | None
    labels: dict[str, str]
    lineage: Lineage
    create_time: datetime
    # Of the base model that the version was checked against; empty until it has been.
    base_model_digest: str = ""
    signature: Signature | None = None

    @property
    def name(self) -> str:
        """The full resource name."""
        return self.adapter.version(self.version)

    @property
    def size_bytes(self) -> int:
        """All files together."""
        return sum(file.size_bytes for file in self.files)


def adapter_key(files: Iterable[VersionFile]) -> str:
    """The AdapterKey: sha256 in hex over canonical JSON of the sorted [path, size, sha256] of `files`."""
    rows = sorted([file.path, file.size_bytes, file.sha256] for file in files)
    canonical = json.dumps(rows, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def check_key(version: AdapterVersion) -> AdapterVersion:
    """The version, if its files' digests give its key. Raises CORRUPT_BLOB: a row is damaged."""
    if version.key == adapter_key(version.files):
        return version
    raise ServiceError(
        Code.DATA_LOSS,
        Reason.CORRUPT_BLOB,
        f"the rows of {version.name} are damaged, its files' digests do not give its key: upload the same "
        "files again as a new version, or restore the database from a backup",
        metadata={"version": str(version.version)},
    )


def not_active(version: AdapterVersion) -> ServiceError:
    """VERSION_NOT_ACTIVE: says in which state the version is and what to do."""
    todo = {
        VersionState.CREATING: "it is still being uploaded: finish its upload first",
        VersionState.FAILED: f"it failed ({version.status_message}): upload a new version",
        VersionState.DISABLED: "enable it, or name another version",
        VersionState.DELETED: "it will not come back: name another version",
    }.get(version.state, "name another version")
    return ServiceError(
        Code.FAILED_PRECONDITION,
        Reason.VERSION_NOT_ACTIVE,
        f"{version.name} is {version.state.value}: {todo}",
        metadata={"state": version.state.value, "version": str(version.version)},
    )
