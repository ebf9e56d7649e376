"""Brings an adapter into the host cache: files from disk or the store, checked, parsed, packed.

What is on disk is read by threads of its own, so that no number of slow downloads holds it up. Must not
know residency, the pool or gRPC: a FileReader reads from the store.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Protocol

from kernels.lora_site import LoraSite
from kernels.table_row import TableShape
from services.common.errors import Code, Reason, ServiceError
from services.common.trace_context import TraceContext, entered, parse
from services.inference.adapters.adapter_weights import CONFIG_FILE, WEIGHTS_FILE, parse_adapter_weights
from services.inference.adapters.completions import Fetched, FetchFailed, defect
from services.inference.adapters.disk_cache import DiskCache
from services.inference.adapters.host_cache import HostCache
from services.inference.adapters.io_orders import FetchSource
from services.inference.adapters.packing import BaseWeight, pack
from services.inference.adapters.peft_config import invalid
from services.inference.adapters.read_buffers import Bytes
from services.inference.adapters.workers import Workers
from services.inference.request import AdapterFile, ResolvedAdapter


class FileReader(Protocol):
    """Reads one file of a version from where adapters are kept."""

    def read(self, version_name: str, file: AdapterFile, to: Path, cancelled: Callable[[], bool]) -> None:
        """Writes the whole file to `to`. Raises ServiceError."""
        ...

    def close(self) -> None:
        """Ends the reads that run."""
        ...


class Fetcher:
    """`store_threads` downloads and `disk_threads` reads at once; a slow one holds up its own thread only.

    The same adapter is not submitted again before its Fetched or FetchFailed was posted.
    """

    def __init__(
        self,
        reader: FileReader,
        disk_cache: DiskCache,
        host_cache: HostCache,
        workers: Workers,
        *,
        sites: Sequence[LoraSite],
        row_shape: TableShape,
        max_rank: int,
        base_weight: BaseWeight,
        store_threads: int,
        disk_threads: int,
        post: Callable[[Fetched | FetchFailed], None],
    ) -> None:
        self._reader = reader
        self._disk_cache = disk_cache
        self._host_cache = host_cache
        self._workers = workers
        self._sites = tuple(sites)
        self._row_shape = row_shape
        self._max_rank = max_rank
        self._base_weight = base_weight
        self._post = post
        self._closing = Event()
        self._store_threads = ThreadPoolExecutor(store_threads, thread_name_prefix="fetch")
        self._disk_threads = ThreadPoolExecutor(disk_threads, thread_name_prefix="disk")

    def submit(self, adapter: ResolvedAdapter) -> None:
        """Starts fetching; Fetched or FetchFailed is posted when it is over."""
        self._disk_threads.submit(self._guarded, self._from_disk, adapter)

    def close(self) -> None:
        """Ends the fetches that run and drops the others; nothing half-written stays."""
        self._closing.set()
        self._reader.close()
        self._disk_threads.shutdown(wait=True, cancel_futures=True)
        self._store_threads.shutdown(wait=True, cancel_futures=True)

    def _guarded(self, fetch: Callable[[ResolvedAdapter], Fetched | None], adapter: ResolvedAdapter) -> None:
        try:
            with entered(_fetch_context(adapter)):
                fetched = fetch(adapter)
        except ServiceError as error:
            self._post(FetchFailed(adapter.key, error))
        except OSError as error:
            self._post(FetchFailed(adapter.key, _disk_error(error)))
        except Exception as error:
            self._post(FetchFailed(adapter.key, defect(f"fetching {adapter.version_name}", error)))
        else:
            if fetched is not None:
                self._post(fetched)
                # Nobody waits for this; if memory is short, the fetch that needs it says so.
                with suppress(MemoryError):
                    self._host_cache.arena.prepare()

    def _from_disk(self, adapter: ResolvedAdapter) -> Fetched | None:
        with self._disk_cache.open(adapter.key, _needed_files(adapter)) as contents:
            if contents is not None:
                return self._packed(adapter, contents, FetchSource.DISK)
        self._store_threads.submit(self._guarded, self._from_store, adapter)
        return None

    def _from_store(self, adapter: ResolvedAdapter) -> Fetched:
        def fill(file: AdapterFile, to: Path) -> None:
            self._reader.read(adapter.version_name, file, to, self._closing.is_set)

        with self._disk_cache.fill(adapter.key, _needed_files(adapter), fill) as contents:
            return self._packed(adapter, contents, FetchSource.STORE)

    def _packed(self, adapter: ResolvedAdapter, contents: Sequence[Bytes], source: FetchSource) -> Fetched:
        config_file, weights_file = contents
        weights = parse_adapter_weights(config_file, weights_file, self._sites, self._max_rank, self._workers)
        arena = self._host_cache.arena
        packed = pack(adapter.key, weights, arena, self._row_shape, self._base_weight, self._workers)
        self._host_cache.put(packed)
        return Fetched(adapter.key, packed.num_pages, packed.num_bytes, source)


def _fetch_context(adapter: ResolvedAdapter) -> TraceContext | None:
    """The span of the fetch, whose id the front end knows too: calls to the store are its children."""
    request = parse(adapter.traceparent)
    return None if request is None else request.named_child(f"fetch {adapter.key}")


def _needed_files(adapter: ResolvedAdapter) -> list[AdapterFile]:
    by_path = {file.path: file for file in adapter.files}
    for path in (CONFIG_FILE, WEIGHTS_FILE):
        if path not in by_path:
            raise invalid(path, f"is missing from {adapter.version_name}")
    return [by_path[CONFIG_FILE], by_path[WEIGHTS_FILE]]


def _disk_error(error: OSError) -> ServiceError:
    message = f"the adapter cache cannot be used ({error.strerror}): check the server's --cache-dir"
    return ServiceError(Code.INTERNAL, Reason.INTERNAL_ERROR, message)
