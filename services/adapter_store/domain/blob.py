"""A blob as rows know it: bytes by digest, and whether they may be counted on."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class BlobState(StrEnum):
    """STORING -> STORED -> DELETING, then the row is gone. Only what is STORED may be counted on."""

    STORING = "STORING"
    STORED = "STORED"
    DELETING = "DELETING"


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """One blob that lies in the blob store, as its listing tells."""

    sha256: str
    size_bytes: int
    modify_time: datetime


@dataclass(frozen=True, slots=True)
class ReadUrl:
    """Where a blob's bytes can be had by HTTP GET until `expire_time`, without asking the store."""

    url: str
    expire_time: datetime
