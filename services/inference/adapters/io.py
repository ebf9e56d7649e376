"""Does the I/O that residency asks for, and tells it how that ended.

    Fetch -> fetcher -> Fetched     -> residency.on_fetched
    Load  -> loader  -> Loaded      -> table row written, residency.on_loaded

Used by the engine's loop only; its threads post completions, which the loop hands to `complete`.
Must not know requests or policy.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from kernels.rank_row_table import RankRowTable
from services.inference.adapters.completions import Completion, Fetched, FetchFailed, Loaded, LoadFailed
from services.inference.adapters.disk_cache import DiskCache
from services.inference.adapters.fetcher import Fetcher, FileReader
from services.inference.adapters.host_cache import HostCache
from services.inference.adapters.io_orders import ClearTable, DropHost, Fetch, Io, Load
from services.inference.adapters.loader import Loader
from services.inference.adapters.packing import BaseWeight, PageShape
from services.inference.adapters.residency import Residency

__all__ = ["AdapterIo", "Completion", "FetchFailed", "Fetched", "LoadFailed", "Loaded"]


class AdapterIo:
    """Fetcher, loader and host cache behind one door. `post` is called from other threads."""

    def __init__(
        self,
        residency: Residency,
        table: RankRowTable,
        reader: FileReader,
        *,
        cache_dir: Path,
        disk_cache_bytes: int,
        fetch_threads: int,
        base_weight: BaseWeight,
        post: Callable[[Completion], None],
    ) -> None:
        self._residency = residency
        self._table = table
        self._host_cache = HostCache()
        pool_PE = table.pool_E.view(-1, table.page_elements)
        self._loader = Loader(pool_PE, post)
        self._fetcher = Fetcher(
            reader,
            DiskCache(cache_dir, disk_cache_bytes),
            self._host_cache,
            sites=table.sites,
            max_rank=table.max_rank,
            shape=PageShape(table.page_elements, table.pool_E.dtype, pinned=table.pool_E.is_cuda),
            base_weight=base_weight,
            num_threads=fetch_threads,
            post=post,
        )

    def execute(self, io: Sequence[Io]) -> None:
        """Starts `io`, in order; returns at once."""
        for order in io:
            match order:
                case Fetch(adapter):
                    self._fetcher.submit(adapter)
                case Load(key, _, pages):
                    self._loader.submit(self._host_cache.get(key), pages)
                case DropHost(key):
                    self._host_cache.drop(key)
                case ClearTable(adapter_index):
                    self._table.clear(adapter_index)

    def complete(self, completion: Completion) -> list[Io]:
        """Takes one completion; returns the I/O that follows from it."""
        match completion:
            case Fetched(key, num_pages, host_bytes, source):
                return self._residency.on_fetched(key, num_pages, host_bytes, source)
            case FetchFailed(key, error):
                return self._residency.on_fetch_failed(key, error)
            case Loaded(key, rows):
                self._table.write(self._residency.adapter_index(key), rows)
                return self._residency.on_loaded(key)
            case LoadFailed(key, error):
                return self._residency.on_load_failed(key, error)

    def close(self) -> None:
        """Ends all threads; what they had under way is dropped."""
        self._fetcher.close()
        self._loader.close()

    def check_integrity(self) -> None:
        """Raises AssertionError unless the host cache holds what residency says it does.

        To be called when no completion is on its way.
        """
        held = {info.key for info in self._residency.info() if info.host_bytes}
        assert self._host_cache.keys() == held, "host copies that residency does not know of, or the reverse"
