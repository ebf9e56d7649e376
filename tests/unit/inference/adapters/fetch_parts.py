"""A fetcher over real caches, and a pack that needs none, for tests."""

import torch

from kernels.table_row import TableShape
from services.inference.adapters.adapter_weights import AdapterWeights
from services.inference.adapters.disk_cache import DiskCache
from services.inference.adapters.fetcher import Fetcher
from services.inference.adapters.host_arena import HostArena
from services.inference.adapters.host_cache import HostCache
from services.inference.adapters.packing import PackedAdapter, pack
from services.inference.adapters.read_buffers import ReadBuffers
from services.inference.adapters.workers import Workers
from services.inference.request import AdapterKey

KEY = AdapterKey("a" * 64)
ARENA_PAGES = 64
MAX_TILES = 64


def ones(site) -> torch.Tensor:
    """A base weight for sites that DoRA asks for."""
    return torch.ones(site.out_features, site.in_features)


class FetchParts:
    """Fetcher, disk cache and host cache over `cache_dir`."""

    def __init__(self, reader, cache_dir, post, sites, store_threads=2, disk_threads=2, chunk_bytes=512):
        self.workers = Workers(2)
        self.disk_cache = DiskCache(cache_dir, 1 << 20, self.workers, ReadBuffers(1 << 20, 4), chunk_bytes)
        self.host_cache = HostCache(HostArena(256, torch.float32, ARENA_PAGES * 1024))
        self.fetcher = Fetcher(
            reader,
            self.disk_cache,
            self.host_cache,
            self.workers,
            sites=sites,
            row_shape=TableShape(len(sites), MAX_TILES),
            max_rank=64,
            base_weight=ones,
            store_threads=store_threads,
            disk_threads=disk_threads,
            post=post,
        )

    def close(self):
        self.fetcher.close()
        self.workers.close()
        self.disk_cache.close()


def packed(
    weights: AdapterWeights, page_elements, dtype=torch.float32, base_weight=ones, key=KEY
) -> PackedAdapter:
    """`weights` in pages of an arena of their own, which held NaN before."""
    arena = HostArena(page_elements, dtype, ARENA_PAGES * page_elements * dtype.itemsize)
    for tensor_E in (pages := arena.take(ARENA_PAGES)).tensors_E:
        tensor_E.fill_(torch.nan)
    arena.give_back(pages)
    shape = TableShape(1 + max(found.site.index for found in weights.sites), MAX_TILES)
    return pack(key, weights, arena, shape, base_weight, Workers(2))


def pages_PE(adapter: PackedAdapter) -> torch.Tensor:
    """The pages as one tensor."""
    return torch.stack(adapter.pages.tensors_E)
