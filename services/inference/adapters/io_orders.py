"""The I/O that residency asks for: plain values. Must not know who does it."""

from dataclasses import dataclass
from enum import StrEnum

from services.inference.request import AdapterKey, ResolvedAdapter


class FetchSource(StrEnum):
    """Where a fetched adapter's files came from."""

    DISK = "disk"
    STORE = "store"


@dataclass(frozen=True, slots=True)
class Fetch:
    """Read, check and pack this adapter into host memory."""

    adapter: ResolvedAdapter


@dataclass(frozen=True, slots=True)
class Load:
    """Copy the host copy of `key` into `pages` and write its table row, `adapter_index`.

    To be executed before the step that may use the adapter.
    """

    key: AdapterKey
    adapter_index: int
    pages: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DropHost:
    """Forget the host copy of `key`."""

    key: AdapterKey


@dataclass(frozen=True, slots=True)
class ClearTable:
    """Forget the table row `adapter_index`; its pages belong to others now."""

    adapter_index: int


Io = Fetch | Load | DropHost | ClearTable
