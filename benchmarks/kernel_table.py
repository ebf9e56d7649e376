"""SGMV's time against its floor and the base matmul: batches x popularities x ranks x groups of sites.

Legend: T rows, K in features, N out features. Must not know the engine.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.budget import Budget
from benchmarks.device_timing import Timing, time_call
from benchmarks.kernel_world import GROUPS, KernelWorld, Layer
from benchmarks.popularity import Popularity, runs
from benchmarks.shape import KernelSizes
from kernels.reference import ReferenceSgmv
from kernels.segments import Segments, make_segments

# Two roundings to 16 bits, of h and of the result; plain products of such operands err by as much.
MAX_ERROR = {torch.bfloat16: 1e-2, torch.float16: 2e-3, torch.float32: 1e-5}
NUM_CHECKED_ROWS = 32
NUM_LAUNCHES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelRow:
    """Microseconds a call. `added_us` is what SGMV adds to the base matmul it follows.

    `floor_us` moves x, y and the live rank rows once at the measured copy bandwidth; `over_floor` is
    `sgmv_us` over that floor and two launches. `error` is ||out - ref|| / ||ref|| of the deltas, against
    float32 row by row, on the first rows of the batch.
    """

    group: str
    batch: int
    popularity: str
    ranks: str
    adapters: int
    sgmv_us: float
    added_us: float
    base_us: float
    floor_us: float
    over_floor: float
    added_over_base: float
    error: float
    method: str


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What the device can do at best."""

    copy_bytes_per_s: float
    launch_s: float


def run_kernel_table(
    world: KernelWorld,
    sizes: KernelSizes,
    ceilings: Ceilings,
    budget: Budget,
    on_rows: Callable[[list[KernelRow]], None],
) -> str:
    """Calls `on_rows` with all rows so far, after every group and batch; returns what was skipped, or ""."""
    rows: list[KernelRow] = []
    longest_s = 0.0
    for group in GROUPS:
        layers = world.layers(group)
        for batch in sizes.batches:
            if not budget.allows(longest_s):
                return f"kernel: {group} from batch {batch} on, and the groups after it"
            before_s = budget.left_s
            rows += _Bench(world, layers, group, batch, sizes.replays).rows(ceilings)
            longest_s = max(longest_s, before_s - budget.left_s)
            on_rows(rows)
            budget.say(f"kernel: {_line(rows, batch)}")
    return ""


def _line(rows: Sequence[KernelRow], batch: int) -> str:
    row = next(row for row in reversed(rows) if row.batch == batch and row.popularity == Popularity.DISTINCT)
    return (
        f"{row.group}, batch {batch}, {row.popularity}, ranks {row.ranks}: {row.sgmv_us:.1f} us, "
        f"floor {row.floor_us:.1f}, added {row.added_us:.1f} to {row.base_us:.1f} ({row.method})"
    )


class _Bench:
    """One group at one batch size: the base matmul is timed once for all cells."""

    def __init__(
        self, world: KernelWorld, layers: Sequence[Layer], group: str, batch: int, replays: int
    ) -> None:
        self._world, self._layers, self._group, self._batch = world, layers, group, batch
        self._replays = replays
        self._x_TK = world.random(batch, layers[0].weight_NK.shape[1], std=1.0)
        self._ys = [world.random(batch, layer.weight_NK.shape[0]) for layer in layers]

    def rows(self, ceilings: Ceilings) -> list[KernelRow]:
        base = self._time(self._base)
        # One request is spread in one way only.
        popularities = tuple(Popularity) if self._batch > 1 else (Popularity.DISTINCT,)
        cells = [(popularity, ranks) for popularity in popularities for ranks in self._world.rank_sets]
        return [self._row(popularity, ranks, base, ceilings) for popularity, ranks in cells]

    def _row(self, popularity: Popularity, ranks: str, base: Timing, ceilings: Ceilings) -> KernelRow:
        spread = runs(popularity, self._batch)
        pairs = [(self._world.index(ranks, adapter), count) for adapter, count in spread]
        segments = make_segments(pairs, self._world.device)
        sgmv = self._time(partial(self._sgmv, segments))
        both = self._time(partial(self._both, segments))
        floor_s = self._floor_bytes(ranks, [adapter for adapter, _ in spread]) / ceilings.copy_bytes_per_s
        added_s = both.seconds - base.seconds
        return KernelRow(
            group=self._group,
            batch=self._batch,
            popularity=popularity.value,
            ranks=ranks,
            adapters=len(spread),
            sgmv_us=sgmv.seconds * 1e6,
            added_us=added_s * 1e6,
            base_us=base.seconds * 1e6,
            floor_us=floor_s * 1e6,
            over_floor=sgmv.seconds / (floor_s + NUM_LAUNCHES * ceilings.launch_s),
            added_over_base=added_s / base.seconds,
            error=self._error(segments),
            method=sgmv.method,
        )

    def _time(self, run: Callable[[], None]) -> Timing:
        """Of one layer: a call goes through all of them."""
        timing = time_call(run, self._world.device, self._replays)
        return Timing(timing.seconds / len(self._layers), timing.method)

    def _base(self) -> None:
        for layer in self._layers:
            F.linear(self._x_TK, layer.weight_NK)

    def _sgmv(self, segments: Segments) -> None:
        for layer, y_TN in zip(self._layers, self._ys, strict=True):
            self._world.sgmv.add_(y_TN, self._x_TK, layer.sites, segments, None)

    def _both(self, segments: Segments) -> None:
        for layer in self._layers:
            y_TN = F.linear(self._x_TK, layer.weight_NK)
            self._world.sgmv.add_(y_TN, self._x_TK, layer.sites, segments, None)

    def _floor_bytes(self, ranks: str, adapters: Sequence[int]) -> int:
        sites, itemsize = self._layers[0].sites, self._world.dtype.itemsize
        row_elements = sum(site.in_features + site.out_features for site in sites)
        rank_rows = sum(self._world.rank(ranks, adapter) for adapter in adapters)
        # y is read and written; x is read.
        rows_elements = self._x_TK.numel() + 2 * self._ys[0].numel()
        return itemsize * (rank_rows * row_elements + rows_elements)

    def _error(self, segments: Segments) -> float:
        """Of the deltas alone: added to nothing, they are not hidden by y's own size."""
        layer, num_rows = self._layers[0], min(self._batch, NUM_CHECKED_ROWS)
        found_TN = torch.zeros_like(self._ys[0])
        self._world.sgmv.add_(found_TN, self._x_TK, layer.sites, segments, None)
        exact_TN = torch.zeros(num_rows, found_TN.shape[1], device=found_TN.device)
        head = _head(segments, num_rows)
        x_TK: Tensor = self._x_TK[:num_rows]
        ReferenceSgmv(self._world.table).add_(exact_TN, x_TK, layer.sites, head, None)
        return float((found_TN[:num_rows].float() - exact_TN).norm() / exact_TN.norm())


def _head(segments: Segments, num_rows: int) -> Segments:
    counts = zip(segments.adapter_indices, segments.starts, segments.starts[1:], strict=False)
    pairs = [(index, min(end, num_rows) - start) for index, start, end in counts if start < num_rows]
    return make_segments(pairs, segments.starts_S1.device)


def is_right(row: KernelRow, dtype: torch.dtype) -> bool:
    """Whether the cell's output was; NaN never is."""
    return row.error <= MAX_ERROR[dtype]
