"""An upload: the making of one version, and how far each of its files has come."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from services.adapter_store.domain.names import AdapterName
from services.adapter_store.domain.version import VersionFile
from services.common.errors import Code, Reason, ServiceError


class UploadState(StrEnum):
    """OPEN -> FINISHED | REFUSED | ABORTED."""

    OPEN = "OPEN"
    FINISHED = "FINISHED"
    REFUSED = "REFUSED"
    ABORTED = "ABORTED"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why validation refused an upload: said again, word for word, to whoever finishes it again."""

    code: str
    reason: str
    message: str
    field: str

    def error(self) -> ServiceError:
        """The refusal as it was first raised."""
        return ServiceError(Code(self.code), Reason(self.reason), self.message, field=self.field)


@dataclass(frozen=True, slots=True)
class Upload:
    """One upload. `stored` holds the paths whose bytes are verified and in the blob store."""

    id: str
    adapter_id: int
    adapter: AdapterName
    version: int
    base_model: str
    state: UploadState
    files: tuple[VersionFile, ...]
    stored: frozenset[str]
    fingerprint: str
    refusal: Refusal | None
    create_time: datetime

    @property
    def missing_positions(self) -> list[int]:
        """Positions of the files that are not stored yet, in order."""
        return [position for position, file in enumerate(self.files) if file.path not in self.stored]


@dataclass(frozen=True, slots=True)
class PersistedFile:
    """How many bytes of one file are durable."""

    path: str
    persisted_bytes: int
