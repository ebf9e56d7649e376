"""What LoRA costs a decode step on this CPU: `python -m kernels.bench`.

Times the matmuls of some decoder layers, then the same with deltas added, for batches of one adapter
and of many; attention, norms and sampling are left out, so an engine's own ratios are nearer to 1.
Must not know models or services: a layer is a list of widths.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels import tuning
from kernels.lora_site import LoraSite
from kernels.rank_row_table import RankRowTable, SiteRows
from kernels.segments import BASE, Segments, make_segments
from kernels.sgmv_torch import TorchSgmv

RANKS = (16, 4, 8, 12, 16, 24, 32, 8)
NUM_ADAPTERS = 32


@dataclass(frozen=True, slots=True)
class LayerShape:
    """Widths of one decoder layer; `groups` are (in features, out features of the sites sharing them)."""

    name: str
    num_layers: int
    num_timed: int
    groups: tuple[tuple[int, tuple[int, ...]], ...]


SHAPES = (
    LayerShape("tiny", 6, 6, ((256, (256, 128, 128)), (256, (256,)), (256, (704, 704)), (704, (256,)))),
    LayerShape(
        "1B", 16, 1, ((2048, (2048, 512, 512)), (2048, (2048,)), (2048, (8192, 8192)), (8192, (2048,)))
    ),
)


class LayerBench:
    """Layers of `shape` with NUM_ADAPTERS random adapters on every linear, ranks as in RANKS.

    Only `num_timed` layers are made, so that the large shape fits in memory.
    """

    def __init__(self, shape: LayerShape) -> None:
        self.groups: list[tuple[tuple[LoraSite, ...], Tensor]] = []
        sites: list[LoraSite] = []
        for width, outs in shape.groups * shape.num_timed:
            group = tuple(
                LoraSite(len(sites) + i, f"site{len(sites) + i}", width, n) for i, n in enumerate(outs)
            )
            sites.extend(group)
            self.groups.append((group, torch.randn(width, sum(outs)) * width**-0.5))
        ranks = [RANKS[adapter % len(RANKS)] for adapter in range(NUM_ADAPTERS)]
        width_total = sum(site.in_features + site.out_features for site in sites)
        pool_E = torch.randn(sum(ranks) * width_total) * 0.02
        self.table = RankRowTable(pool_E, sites, NUM_ADAPTERS, max(ranks), page_elements=len(pool_E))
        offset = 0
        for adapter, rank in enumerate(ranks):
            offset = self._write(adapter, rank, offset)
        self.sgmv = TorchSgmv(self.table, tuning.MAX_COPIED_BYTES * shape.num_timed // shape.num_layers)

    def _write(self, adapter: int, rank: int, offset: int) -> int:
        rows: list[SiteRows] = []
        for site in self.table.sites:
            tiles: list[tuple[int, ...]] = []
            for width, tile_rows in (
                (site.in_features, self.table.a_rows[site.index]),
                (site.out_features, self.table.b_rows[site.index]),
            ):
                tiles.append(tuple(offset + row * width for row in range(0, rank, tile_rows)))
                offset += rank * width
            rows.append(SiteRows(site.index, rank, 2.0, tiles[0], tiles[1]))
        self.table.write(adapter, rows)
        return offset

    def step(self, segments: Segments) -> Callable[[], None]:
        """One decode step of the layers: base matmuls, and deltas where the batch has adapters."""
        inputs = [torch.randn(segments.starts[-1], group[0].in_features) for group, _ in self.groups]

        def run() -> None:
            for (group, W_KN), x_TK in zip(self.groups, inputs, strict=True):
                y_TN = x_TK @ W_KN
                if segments.has_adapters:
                    self.sgmv.add_(y_TN, x_TK, group, segments, None)

        return run


def batch(num_rows: int, num_adapters: int) -> Segments:
    """`num_rows` decode rows shared evenly by adapters 0..num_adapters-1; 0 is base rows alone."""
    if num_adapters == 0:
        return make_segments([(BASE, num_rows)], torch.device("cpu"))
    return make_segments([(a, num_rows // num_adapters) for a in range(num_adapters)], torch.device("cpu"))


def best_seconds(steps: Sequence[Callable[[], None]], budget_s: float) -> list[float]:
    """The fastest run of each, taken in turns so that a busy machine slows all alike."""
    best = [float("inf")] * len(steps)
    for step in steps:
        step()
    deadline_s = time.perf_counter() + budget_s
    while time.perf_counter() < deadline_s:
        for i, step in enumerate(steps):
            start_s = time.perf_counter()
            step()
            best[i] = min(best[i], time.perf_counter() - start_s)
    return best


def main() -> None:
    """Prints the table."""
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, float32, ranks {RANKS}")
    print(f"{'model':6}{'rows':>5}  {'adapters':9}{'us a layer':>11}{'over none':>11}{'over one':>10}")
    for shape in SHAPES:
        bench = LayerBench(shape)
        for num_rows, counts in ((1, (0, 1)), (8, (0, 1, 8)), (32, (0, 1, 8, 32))):
            taken = best_seconds([bench.step(batch(num_rows, count)) for count in counts], budget_s=5)
            for count, seconds in zip(counts, taken, strict=True):
                us_a_layer = seconds * 1e6 / shape.num_timed
                ratios = f"{seconds / taken[0]:11.2f}{seconds / taken[1]:10.2f}"
                print(f"{shape.name:6}{num_rows:5}  {count or 'none':<9}{us_a_layer:11.0f}{ratios}")


if __name__ == "__main__":
    main()
