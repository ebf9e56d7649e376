"""What every implementation of Sgmv is held to, on any device: one case, one comparison."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.rank_row_table import RankRowTable
from kernels.segments import BASE
from kernels.sgmv import Sgmv
from tests.lora_cases import AdapterWorld, assert_close, make_sites, make_world, true_result

MakeSgmv = Callable[[RankRowTable], Sgmv]
Runs = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class SgmvCase:
    """Sites of width in_features -> each of out_features, and ranks[adapter][site], 0 for none."""

    in_features: int
    out_features: tuple[int, ...]
    ranks: tuple[tuple[int, ...], ...]
    runs: Runs
    dora: tuple[int, ...] = ()
    has_bias: bool = True
    page_elements: int = 4096

    def world(self, dtype: torch.dtype, device: str) -> AdapterWorld:
        sites = make_sites(*((self.in_features, n) for n in self.out_features))
        return make_world(
            sites, self.ranks, dora=self.dora, dtype=dtype, page_elements=self.page_elements, device=device
        )


MIXED_RANKS = ((3, 0, 8), (16, 24, 1), (64, 12, 16), (0, 4, 0), (32, 32, 32))

CASES = {
    "decode_distinct": SgmvCase(48, (64, 16, 16), MIXED_RANKS, ((0, 1), (1, 1), (2, 1), (3, 1), (4, 1))),
    "decode_with_base": SgmvCase(
        48, (64, 16, 16), MIXED_RANKS, ((BASE, 2), (1, 1), (BASE, 1), (4, 1), (0, 1), (BASE, 3)), dora=(4,)
    ),
    "decode_one_adapter": SgmvCase(48, (64, 16, 16), MIXED_RANKS, ((2, 8),), has_bias=False),
    "decode_even_runs": SgmvCase(48, (64, 16, 16), MIXED_RANKS, ((0, 3), (1, 3), (2, 3)), dora=(1,)),
    "decode_uneven_runs": SgmvCase(33, (17, 160), ((3, 5), (12, 7)), ((0, 2), (1, 5), (0, 1), (1, 16))),
    "empty_segments": SgmvCase(
        48, (64, 16, 16), MIXED_RANKS, ((0, 0), (1, 2), (3, 0), (1, 1), (BASE, 0), (4, 1), (2, 0))
    ),
    "base_only": SgmvCase(48, (64, 16, 16), MIXED_RANKS, ((BASE, 5),)),
    "untouched_site": SgmvCase(48, (64, 16, 16), MIXED_RANKS, ((3, 2), (BASE, 1), (3, 20))),
    "prefill_and_decode": SgmvCase(
        33, (48, 17, 130), MIXED_RANKS, ((0, 40), (1, 1), (BASE, 3), (2, 20), (3, 7), (0, 2)), dora=(2, 1)
    ),
    "prefill_long": SgmvCase(40, (150,), ((24,), (3,)), ((0, 130), (1, 70)), dora=(1,), has_bias=False),
    "wide_input": SgmvCase(2100, (24,), ((20,), (5,)), ((0, 1), (1, 2)), page_elements=40_000),
    "one_row_tiles": SgmvCase(129, (257,), ((5,), (18,)), ((0, 1), (1, 3)), page_elements=264),
    "four_row_tiles": SgmvCase(50, (90,), ((33,), (6,)), ((0, 20), (1, 1)), page_elements=400),
    "one_wide": SgmvCase(1, (1, 3), ((1, 2), (4, 1)), ((0, 1), (BASE, 1), (1, 2))),
    "dora_no_bias": SgmvCase(
        24, (40, 8), ((8, 3), (12, 0)), ((0, 1), (1, 1), (0, 18)), dora=(0, 1), has_bias=False
    ),
    "all_ranks": SgmvCase(
        24, (20,), tuple((rank,) for rank in range(1, 65)), tuple((a, 1) for a in range(64))
    ),
}


@contextmanager
def poisoned_memory() -> Iterator[None]:
    """torch.empty is full of NaN inside."""
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@dataclass(frozen=True)
class Inputs:
    """x and y lie inside larger NaN tensors; `guard` is all of y's, to see who writes outside."""

    x_TK: Tensor
    y_TN: Tensor
    guard: Tensor
    bias_N: Tensor | None


def make_inputs(case: SgmvCase, dtype: torch.dtype, device: str) -> Inputs:
    generator = torch.Generator().manual_seed(7)
    T, N = sum(count for _, count in case.runs), sum(case.out_features)
    x = torch.full((T + 1, case.in_features + 16), torch.nan)
    x[:T, : case.in_features] = torch.randn(T, case.in_features, generator=generator)
    y = torch.full((T + 2, N), torch.nan)
    y[1:-1] = torch.randn(T, N, generator=generator)
    bias = torch.randn(N, generator=generator) if case.has_bias else None
    guard = y.to(device, dtype)
    return Inputs(
        x.to(device, dtype)[:T, : case.in_features],
        guard[1:-1],
        guard,
        None if bias is None else bias.to(device, dtype),
    )


def check_add(make: MakeSgmv, case: SgmvCase, dtype: torch.dtype, device: str) -> None:
    """`add_` gives the truth, leaves base rows bit for bit, and writes nothing outside y."""
    world = case.world(dtype, device)
    inputs = make_inputs(case, dtype, device)
    segments, sites = world.segments(case.runs), world.table.sites
    before = inputs.y_TN.clone()
    truth = true_result(world, before, inputs.x_TK, sites, segments, inputs.bias_N)
    make(world.table).add_(inputs.y_TN, inputs.x_TK, sites, segments, inputs.bias_N)
    assert_close(inputs.y_TN, truth, case.in_features + 64)
    for s, adapter in enumerate(segments.adapter_indices):
        if adapter == BASE:
            rows = slice(segments.starts[s], segments.starts[s + 1])
            assert torch.equal(inputs.y_TN[rows], before[rows])
    assert bool(inputs.guard[0].isnan().all())
    assert bool(inputs.guard[-1].isnan().all())


def check_rows_alone(make: MakeSgmv, case: SgmvCase, dtype: torch.dtype, device: str) -> None:
    """Each row of the mixed batch gets what it gets in a batch of its own."""
    world = case.world(dtype, device)
    inputs = make_inputs(case, dtype, device)
    segments, sites = world.segments(case.runs), world.table.sites
    mixed, before = inputs.y_TN, inputs.y_TN.clone()
    truth = true_result(world, before, inputs.x_TK, sites, segments, inputs.bias_N)
    sgmv = make(world.table)
    sgmv.add_(mixed, inputs.x_TK, sites, segments, inputs.bias_N)
    eps = torch.finfo(dtype).eps
    bound = (eps + (case.in_features + 64) * torch.finfo(torch.float32).eps) * truth.magnitude_TN
    for s, adapter in enumerate(segments.adapter_indices):
        for t in range(segments.starts[s], segments.starts[s + 1]):
            alone = before[t : t + 1].clone()
            sgmv.add_(alone, inputs.x_TK[t : t + 1], sites, world.segments([(adapter, 1)]), inputs.bias_N)
            assert bool(((alone[0] - mixed[t]).double().cpu().abs() <= bound[t]).all()), f"row {t}"


def check_embedding(make: MakeSgmv, dtype: torch.dtype, device: str) -> None:
    """`add_embedding_` adds the token's column of A times B, DoRA included."""
    vocabulary, width = 37, 24
    site = make_sites((vocabulary, width))[0]
    site = type(site)(0, "embedding", vocabulary, width, is_embedding=True)
    runs = ((0, 1), (BASE, 2), (1, 1), (2, 3), (0, 40), (3, 1))
    world = make_world(
        (site,), ((3,), (24,), (16,), (0,)), dora=(1,), dtype=dtype, page_elements=300, device=device
    )
    generator = torch.Generator().manual_seed(3)
    T = sum(count for _, count in runs)
    tokens = torch.randint(0, vocabulary, (T,), generator=generator).to(device)
    y_TN = torch.randn(T, width, generator=generator).to(device, dtype)
    segments = world.segments(runs)
    one_hot = torch.nn.functional.one_hot(tokens, vocabulary)
    truth = true_result(world, y_TN, one_hot, (site,), segments, None)
    make(world.table).add_embedding_(y_TN, tokens, site, segments)
    assert_close(y_TN, truth, 64)
