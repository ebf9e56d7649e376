"""Does the I/O that residency asks for, and tells it how that ended.

    Fetch -> fetcher -> Fetched     -> residency.on_fetched
    Load  -> loader  -> LoadEnded   -> residency.on_load_ended

Used by the engine's loop only; its threads post completions, which the loop hands to `complete`.
Must not know requests or policy.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kernels.rank_row_table import RankRowTable
from services.common.errors import ServiceError
from services.inference.adapters.completions import Completion, Fetched, FetchFailed, LoadEnded
from services.inference.adapters.disk_cache import DiskCache
from services.inference.adapters.fetcher import Fetcher, FileReader
from services.inference.adapters.host_arena import HostArena
from services.inference.adapters.host_cache import HostCache
from services.inference.adapters.io_orders import ClearTable, DropHost, Fetch, Io, Load
from services.inference.adapters.loader import Loader
from services.inference.adapters.packing import BaseWeight
from services.inference.adapters.read_buffers import ReadBuffers
from services.inference.adapters.residency import Residency
from services.inference.adapters.workers import Workers
from services.inference.copy_stream import CopyStream
from services.inference.layer_gates import LoadGates
from services.inference.request import AdapterKey

__all__ = ["AdapterIo", "Completion", "FetchFailed", "Fetched", "IoSizes", "LoadEnded"]


# A larger file is read into memory that is not kept for the next.
MAX_KEPT_BUFFER_BYTES = 512 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class IoSizes:
    """Bounds and threads; `pack_threads` share each adapter's checking and packing."""

    disk_cache_bytes: int
    host_cache_bytes: int
    store_threads: int
    disk_threads: int
    pack_threads: int


class AdapterIo:
    """Fetcher, loader and host cache behind one door. `post` is called from other threads."""

    def __init__(
        self,
        residency: Residency,
        table: RankRowTable,
        reader: FileReader,
        *,
        copy_stream: CopyStream,
        gates: LoadGates,
        cache_dir: Path,
        sizes: IoSizes,
        base_weight: BaseWeight,
        post: Callable[[Completion], None],
    ) -> None:
        self._residency = residency
        self._table = table
        self._gates = gates
        pool_E = table.pool_E
        arena = HostArena(table.page_elements, pool_E.dtype, sizes.host_cache_bytes, pinned=pool_E.is_cuda)
        self._workers = Workers(sizes.pack_threads)
        # A config file's and a weights file's for each thread that reads from disk all day.
        buffers = ReadBuffers(MAX_KEPT_BUFFER_BYTES, max_kept=2 * sizes.disk_threads)
        self._disk_cache = DiskCache(cache_dir, sizes.disk_cache_bytes, self._workers, buffers)
        self._host_cache = HostCache(arena)
        self._loader = Loader(table, copy_stream, gates, post)
        self._fetcher = Fetcher(
            reader,
            self._disk_cache,
            self._host_cache,
            self._workers,
            sites=table.sites,
            row_shape=table.row_shape,
            max_rank=table.max_rank,
            base_weight=base_weight,
            store_threads=sizes.store_threads,
            disk_threads=sizes.disk_threads,
            post=post,
        )
        arena.prepare()

    def execute(self, io: Sequence[Io]) -> dict[AdapterKey, ServiceError]:
        """Starts `io`, in order; returns at once.

        Adapters of loads that went wrong come back with their error: residency knows, and no step may use
        them. For all others, steps launched from now on find their weights.
        """
        failed: dict[AdapterKey, ServiceError] = {}
        for order in io:
            match order:
                case Fetch(adapter):
                    self._fetcher.submit(adapter)
                case Load(key, adapter_index, pages):
                    error = self._loader.submit(self._host_cache.get(key), adapter_index, pages)
                    if error is not None:
                        self._residency.on_load_failed(key, error)
                        failed[key] = error
                case DropHost(key):
                    self._host_cache.drop(key)
                case ClearTable(adapter_index):
                    self._table.clear(adapter_index)
        return failed

    def complete(self, completion: Completion) -> list[Io]:
        """Takes one completion; returns the I/O that follows from it."""
        match completion:
            case Fetched(key, num_pages, host_bytes, source):
                return self._residency.on_fetched(key, num_pages, host_bytes, source)
            case FetchFailed(key, error):
                return self._residency.on_fetch_failed(key, error)
            case LoadEnded(key):
                self._gates.end(self._residency.adapter_index(key))
                return self._residency.on_load_ended(key)

    def close(self) -> None:
        """Ends all threads; what they had under way is dropped."""
        self._fetcher.close()
        self._loader.close()
        self._workers.close()
        self._disk_cache.close()

    def check_integrity(self) -> None:
        """Raises AssertionError unless the host cache holds what residency says it does.

        To be called when no completion is on its way.
        """
        held = {info.key for info in self._residency.info() if info.host_bytes}
        self._host_cache.check_integrity()
        assert self._host_cache.keys() == held, "host copies that residency does not know of, or the reverse"
