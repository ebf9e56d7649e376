"""Brings an adapter into the host cache: files from disk or the store, checked, parsed, packed.

Must not know residency, the pool or gRPC: a FileReader reads from the store.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Protocol

from kernels.lora_site import LoraSite
from services.common.errors import Code, Reason, ServiceError
from services.inference.adapters.adapter_weights import CONFIG_FILE, WEIGHTS_FILE, read_adapter_weights
from services.inference.adapters.completions import Fetched, FetchFailed, defect
from services.inference.adapters.disk_cache import DiskCache
from services.inference.adapters.host_cache import HostCache
from services.inference.adapters.io_orders import FetchSource
from services.inference.adapters.packing import BaseWeight, PackedAdapter, PageShape, pack
from services.inference.adapters.peft_config import invalid
from services.inference.request import AdapterFile, ResolvedAdapter


class FileReader(Protocol):
    """Reads one file of a version from where adapters are kept."""

    def read(self, version_name: str, file: AdapterFile, to: Path, cancelled: Callable[[], bool]) -> None:
        """Writes the file, whole and checked against its sha256, to `to`. Raises ServiceError."""
        ...

    def close(self) -> None:
        """Ends the reads that run."""
        ...


class Fetcher:
    """`num_threads` fetches at once; a slow one holds up its own thread only.

    The same adapter is not submitted again before its Fetched or FetchFailed was posted.
    """

    def __init__(
        self,
        reader: FileReader,
        disk_cache: DiskCache,
        host_cache: HostCache,
        *,
        sites: Sequence[LoraSite],
        max_rank: int,
        shape: PageShape,
        base_weight: BaseWeight,
        num_threads: int,
        post: Callable[[Fetched | FetchFailed], None],
    ) -> None:
        self._reader = reader
        self._disk_cache = disk_cache
        self._host_cache = host_cache
        self._sites = tuple(sites)
        self._max_rank = max_rank
        self._shape = shape
        self._base_weight = base_weight
        self._post = post
        self._closing = Event()
        self._threads = ThreadPoolExecutor(max_workers=num_threads, thread_name_prefix="fetch")

    def submit(self, adapter: ResolvedAdapter) -> None:
        """Starts fetching; Fetched or FetchFailed is posted when it is over."""
        self._threads.submit(self._fetch, adapter)

    def close(self) -> None:
        """Ends the fetches that run and drops the others; nothing half-written stays."""
        self._closing.set()
        self._reader.close()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _fetch(self, adapter: ResolvedAdapter) -> None:
        try:
            packed, source = self._packed(adapter)
        except ServiceError as error:
            self._post(FetchFailed(adapter.key, error))
        except OSError as error:
            self._post(FetchFailed(adapter.key, _disk_error(error)))
        except Exception as error:
            self._post(FetchFailed(adapter.key, defect(f"fetching {adapter.version_name}", error)))
        else:
            self._host_cache.put(packed)
            self._post(Fetched(adapter.key, packed.num_pages, packed.num_bytes, source))

    def _packed(self, adapter: ResolvedAdapter) -> tuple[PackedAdapter, FetchSource]:
        def fill(file: AdapterFile, to: Path) -> None:
            self._reader.read(adapter.version_name, file, to, self._closing.is_set)

        with self._disk_cache.open(adapter.key, _needed_files(adapter), fill) as (directory, source):
            weights = read_adapter_weights(directory, self._sites, self._max_rank)
            return pack(adapter.key, weights, self._shape, self._base_weight), source


def _needed_files(adapter: ResolvedAdapter) -> list[AdapterFile]:
    by_path = {file.path: file for file in adapter.files}
    for path in (CONFIG_FILE, WEIGHTS_FILE):
        if path not in by_path:
            raise invalid(path, f"is missing from {adapter.version_name}")
    return [by_path[CONFIG_FILE], by_path[WEIGHTS_FILE]]


def _disk_error(error: OSError) -> ServiceError:
    message = f"the adapter cache cannot be used ({error.strerror}): check the server's --cache-dir"
    return ServiceError(Code.INTERNAL, Reason.INTERNAL_ERROR, message)
