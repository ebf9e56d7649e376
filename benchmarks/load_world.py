"""One adapter and everything that loads it, timed stage by stage and as a whole. Must not know reports.

Stages are medians of a number of loads; "store" must be the first kind.
"""

import os
import queue
import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from benchmarks.local_engine import LocalReader
from benchmarks.random_adapters import write_random_adapters
from benchmarks.random_model import write_config
from benchmarks.shape import BenchShape
from kernels.lora_site import LoraSite
from kernels.rank_row_table import RankRowTable
from services.inference.adapters.adapter_weights import WEIGHTS_FILE, parse_adapter_weights
from services.inference.adapters.completions import Completion, LoadEnded
from services.inference.adapters.disk_cache import DiskCache
from services.inference.adapters.host_arena import HostArena
from services.inference.adapters.io import AdapterIo, IoSizes
from services.inference.adapters.loader import Loader
from services.inference.adapters.packing import pack
from services.inference.adapters.read_buffers import ReadBuffers
from services.inference.adapters.residency import Residency
from services.inference.adapters.workers import Workers
from services.inference.copy_stream import make_copy_stream
from services.inference.engine_parts import pack_threads
from services.inference.layer_gates import LoadGates
from services.inference.messages import ResidencyState
from services.inference.model.config import read_config
from services.inference.model.kv_pages import kv_page_elements
from services.inference.model.sites import lora_sites, site_layers
from services.inference.page_pool import PagePool
from services.inference.request import AdapterFile

# The first brings the adapter into the cache, where the others find it.
KINDS = ("store", "cold", "warm")
PAGE_TOKENS = 16
MAX_RANK = 64
TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StagesRow:
    """Medians in ms; `sum_ms` of each load's own sum."""

    kind: str
    verify_ms: float
    parse_ms: float
    check_ms: float
    lay_out_ms: float
    copy_ms: float
    launch_ms: float
    land_ms: float
    sum_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeRow:
    """Medians in ms."""

    kind: str
    usable_ms: float
    total_ms: float
    total_min_ms: float
    loop_ms: float


class TimedWorkers(Workers):
    """Workers, and the time that callers waited for them."""

    waited_s = 0.0

    def map(self, function: Any, items: Sequence[Any]) -> list[Any]:
        """As Workers do."""
        start_s = time.perf_counter()
        try:
            return super().map(function, items)
        finally:
            self.waited_s += time.perf_counter() - start_s


class LoadWorld:
    """Caches, arena, table and a pool that holds one adapter of `shape`, without a model."""

    def __init__(
        self, shape: BenchShape, device: torch.device, directory: Path, num_pack_threads: int | None
    ) -> None:
        write_config(directory / "model", shape.config)
        config = read_config(directory / "model")
        self.pack_threads = num_pack_threads or pack_threads()
        (self._adapter,) = write_random_adapters(directory / "adapters", config, [shape.rank])
        self.adapter_bytes = self._file(WEIGHTS_FILE).size_bytes
        dtype, sites = torch.bfloat16, lora_sites(config)
        elements = max(
            kv_page_elements(config, PAGE_TOKENS), *(max(s.in_features, s.out_features) for s in sites)
        )
        num_pages = 2 + 2 * self.adapter_bytes // (elements * dtype.itemsize)
        pool_E = torch.zeros(num_pages * elements, dtype=dtype, device=device)
        self._table = RankRowTable(pool_E, sites, 2, MAX_RANK, elements)
        self._workers = TimedWorkers(self.pack_threads)
        self._cache_dirs = {"stages": directory / "stages", "whole": directory / "whole"}
        self._cache = DiskCache(self._cache_dirs["stages"], 1 << 40, self._workers, ReadBuffers(1 << 32, 4))
        self._arena = HostArena(elements, dtype, 2 * pool_E.nbytes, pinned=pool_E.is_cuda)
        self._posted: queue.SimpleQueue[Completion] = queue.SimpleQueue()
        stream = make_copy_stream(device)
        gates = LoadGates(site_layers(config), stream.make_gate)
        self._loader = Loader(self._table, stream, gates, self._posted.put)
        self._residency = Residency(PagePool(num_pages), 2, 2 * pool_E.nbytes)
        self._io = AdapterIo(
            self._residency,
            self._table,
            LocalReader(),
            copy_stream=stream,
            gates=gates,
            cache_dir=self._cache_dirs["whole"],
            sizes=IoSizes(
                disk_cache_bytes=1 << 40,
                host_cache_bytes=2 * pool_E.nbytes,
                store_threads=4,
                disk_threads=2,
                pack_threads=self.pack_threads,
            ),
            base_weight=_no_base_weight,
            post=self._posted.put,
        )

    def __enter__(self) -> "LoadWorld":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._io.close()
        self._loader.close()
        self._cache.close()
        self._workers.close()

    def stages(self, kind: str, repeats: int) -> StagesRow:
        """Medians of `repeats` loads after one for nothing."""
        taken = [self._stages(kind) for _ in range(repeats + 1)][1:]
        names = [field.name for field in fields(StagesRow) if field.name not in ("kind", "sum_ms")]
        medians = {name: statistics.median(row[name] for row in taken) for name in names}
        sum_ms = statistics.median(sum(row.values()) for row in taken)
        return StagesRow(kind=kind, **medians, sum_ms=sum_ms)

    def whole(self, kind: str, repeats: int) -> WholeRow:
        """Medians of `repeats` loads after one for nothing."""
        taken = [self._whole(kind, number) for number in range(repeats + 1)][1:]
        usables, totals, loops = zip(*taken, strict=True)
        return WholeRow(
            kind=kind,
            usable_ms=statistics.median(usables) * 1e3,
            total_ms=statistics.median(totals) * 1e3,
            total_min_ms=min(totals) * 1e3,
            loop_ms=statistics.median(loops) * 1e3,
        )

    def _stages(self, kind: str) -> dict[str, float]:
        files, key = list(self._adapter.files), self._adapter.key
        self._bring("stages", kind)
        watch = _Watch(self._workers)
        opened = self._cache.fill(key, files, self._fill) if kind == "store" else self._cache.open(key, files)
        with opened as contents:
            assert contents is not None, f"{kind}: not in the cache"
            took = {"verify_ms": sum(watch.lap())}
            config_file, weights_file = contents
            weights = parse_adapter_weights(
                config_file, weights_file, self._table.sites, MAX_RANK, self._workers
            )
            took["parse_ms"], took["check_ms"] = watch.lap()
            packed = pack(key, weights, self._arena, self._table.row_shape, _no_base_weight, self._workers)
            took["lay_out_ms"], took["copy_ms"] = watch.lap()
        watch.lap()
        error = self._loader.submit(packed, 0, range(packed.num_pages))
        took["launch_ms"], _ = watch.lap()
        ended = self._posted.get(timeout=TIMEOUT_S)
        took["land_ms"], _ = watch.lap()
        assert error is None, error
        assert isinstance(ended, LoadEnded), ended
        self._arena.give_back(packed.pages)
        return took

    def _whole(self, kind: str, number: int) -> tuple[float, float, float]:
        self._bring("whole", kind)
        request, key = f"r{number}", self._adapter.key
        start_s, loop_s = time.perf_counter(), 0.0

        def timed(call: Any, *arguments: Any) -> Any:
            nonlocal loop_s
            call_s = time.perf_counter()
            try:
                return call(*arguments)
            finally:
                loop_s += time.perf_counter() - call_s

        timed(lambda: self._io.execute(self._residency.require(self._adapter, request)))
        fetched = self._posted.get(timeout=TIMEOUT_S)
        timed(lambda: self._io.execute(self._io.complete(fetched)))
        timed(lambda: self._io.execute(self._residency.try_load(self._adapter) or []))
        usable_s = time.perf_counter() - start_s
        ended = self._posted.get(timeout=TIMEOUT_S)
        timed(lambda: self._io.execute(self._io.complete(ended)))
        total_s = time.perf_counter() - start_s
        assert self._residency.state(self._adapter) is ResidencyState.DEVICE, f"{fetched}, {ended}"
        self._residency.leave(key, request)
        self._io.execute(self._residency.unload(key, self._adapter.tenant, ResidencyState.HOST, number))
        return usable_s, total_s, loop_s

    def _bring(self, cache: str, kind: str) -> None:
        """The adapter's files where `kind` wants them."""
        directory = self._cache_dirs[cache] / self._adapter.key
        if kind == "store":
            shutil.rmtree(directory, ignore_errors=True)
        elif kind == "cold":
            _drop_from_page_cache(directory / WEIGHTS_FILE)

    def _fill(self, file: AdapterFile, to: Path) -> None:
        LocalReader().read(self._adapter.version_name, file, to, lambda: False)

    def _file(self, path: str) -> AdapterFile:
        return next(file for file in self._adapter.files if file.path == path)


class _Watch:
    """Laps in ms: (beside the workers, waiting for them)."""

    def __init__(self, workers: TimedWorkers) -> None:
        self._workers = workers
        self._last_s, self._last_waited_s = time.perf_counter(), workers.waited_s

    def lap(self) -> tuple[float, float]:
        now_s, waited_s = time.perf_counter(), self._workers.waited_s
        waiting_s = waited_s - self._last_waited_s
        alone_s = now_s - self._last_s - waiting_s
        self._last_s, self._last_waited_s = now_s, waited_s
        return alone_s * 1e3, waiting_s * 1e3


def _no_base_weight(site: LoraSite) -> torch.Tensor:
    raise AssertionError(f"nobody needs the base weight of {site.name}")


def _drop_from_page_cache(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(file)
