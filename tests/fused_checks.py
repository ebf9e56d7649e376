"""What the fused kernels are held to, on any device: kernels.fused_reference in float64, NaN all around."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from kernels.combine_shrink import combine_shrink
from kernels.decode_attention import KeyShares
from kernels.fused_reference import FusedReference
from kernels.lora_launch import LoraLaunch, Shrunk
from kernels.lora_site import LoraSite
from kernels.norm_shrink import norm_shrink, norm_shrink_kernel, shrink
from kernels.paged_kv import PagedKv
from kernels.residual_expand import residual_expand_, square_sums
from kernels.rope_expand import HeadTurn, rope_expand
from kernels.row_tiles import make_row_tiles
from kernels.segments import BASE
from kernels.sgmv_triton import rank_capacity
from kernels.silu_expand import silu_expand
from kernels.tuning import FusedTiles, fused_tiles
from tests.lora_cases import make_sites, make_world
from tests.sgmv_checks import Runs, poisoned_memory

EPS = 1e-5
LAYERS, LAYER, PAGE_TOKENS = 2, 1, 4
ROUNDING = {torch.float32: 0.0, torch.bfloat16: 2**-7, torch.float16: 2**-10}
"""One in the last place: Triton's interpreter cuts a float32 off where a GPU rounds it."""
# So small that every kernel has several items, splits and chunks of a tiny layer.
SMALL_TILES = FusedTiles(
    residual_columns=32,
    residual_warps=4,
    shrink_split=16,
    shrink_warps=1,
    shrink_wide=64,
    shrink_wide_split=32,
    shrink_wide_warps=2,
    shrink_columns=16,
    heads=2,
    rope_warps=4,
    silu_columns=16,
    silu_warps=4,
    row_columns_a_warp=16,
    combine_columns=32,
)


@dataclass(frozen=True)
class FusedCase:
    """A layer's widths, ranks[adapter][site] of its seven sites, 0 for none, and who the rows belong to."""

    ranks: tuple[tuple[int, ...], ...]
    runs: Runs
    dora: tuple[int, ...] = ()
    hidden: int = 48
    query_heads: int = 6
    kv_heads: int = 2
    head_dim: int = 16
    features: int = 80
    page_elements: int = 4096
    tile_rows: int = 8
    has_bias: bool = False
    has_norms: bool = False
    num_programs: int = 5


MORE_RANKS = tuple((rank,) * 7 for rank in (1, 2, 7, 13, 15, 31, 32, 40, 48, 63))
MIXED = ((3,) * 7, (16, 0, 12, 24, 8, 0, 64), (0, 3, 0, 0, 0, 17, 5), (64, 33, 24, 12, 12, 3, 1), (0,) * 7)
FUSED_CASES = {
    "distinct": FusedCase(MIXED, tuple((a, 1) for a in range(5))),
    "identical": FusedCase(MIXED, ((1, 21),)),
    "uniform": FusedCase(MIXED, ((0, 3), (1, 3), (3, 3)), dora=(1,)),
    "skewed": FusedCase(MIXED, ((0, 19), (1, 4), (2, 1), (3, 1)), dora=(0, 3), has_bias=True),
    "base_between": FusedCase(
        MIXED, ((BASE, 2), (1, 1), (BASE, 1), (4, 2), (0, 1), (BASE, 17)), dora=(0,), has_bias=True
    ),
    "base_only": FusedCase(MIXED, ((BASE, 3),)),
    "empty_segments": FusedCase(MIXED, ((0, 0), (1, 2), (3, 0), (1, 1), (BASE, 0), (3, 1)), has_norms=True),
    "head_norms": FusedCase(MIXED, ((0, 1), (3, 4), (BASE, 1)), dora=(3,), has_norms=True, has_bias=True),
    "prefill": FusedCase(MIXED, ((0, 70), (BASE, 3), (3, 20), (1, 1)), dora=(1, 3), tile_rows=64),
    "odd_widths": FusedCase(
        MIXED,
        ((3, 2), (0, 1), (BASE, 1)),
        dora=(3,),
        hidden=50,
        query_heads=3,
        kv_heads=1,
        head_dim=20,
        features=33,
    ),
    "rank_rows_in_pieces": FusedCase(MIXED, ((1, 1), (3, 5), (BASE, 1)), dora=(3,), page_elements=400),
    "more_ranks": FusedCase(MORE_RANKS, tuple((a, 1) for a in range(10)), num_programs=7),
}


class FusedWorld:
    """The layer's sites and adapters, and a launch over the rows of `runs`."""

    def __init__(
        self,
        case: FusedCase,
        dtype: torch.dtype,
        device: str,
        tiles: FusedTiles | None,
        runs: Runs | None = None,
    ) -> None:
        self.case, self.dtype, self.device = case, dtype, device
        q, kv = case.query_heads * case.head_dim, case.kv_heads * case.head_dim
        h, f = case.hidden, case.features
        sites = make_sites((h, q), (h, kv), (h, kv), (q, h), (h, f), (h, f), (f, h))
        world = make_world(
            sites, case.ranks, dora=case.dora, dtype=dtype, page_elements=case.page_elements, device=device
        )
        self.table, self.sites = world.table, sites
        self.segments = world.segments(case.runs if runs is None else runs)
        self.num_rows = self.segments.starts[-1]
        self.capacity = rank_capacity(max(max(row) for row in case.ranks))
        self.launch = LoraLaunch(
            self.table,
            make_row_tiles(self.segments, case.tile_rows, torch.device(device)),
            self.capacity,
            tiles or fused_tiles(case.tile_rows),
            case.num_programs,
            uses_pdl=device == "cuda" and torch.cuda.get_device_capability()[0] >= 9,
            is_interpreted=not isinstance(norm_shrink_kernel, triton.JITFunction),
        )
        self.reference = FusedReference(self.table, self.segments)
        self._generator = torch.Generator().manual_seed(13)

    def random(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        return torch.randn(shape, generator=self._generator).to(self.device, dtype or self.dtype)

    def shrunk(self, sites: Sequence[LoraSite], num_splits: int) -> tuple[Shrunk, list[Tensor]]:
        """h in random splits, NaN wherever nothing may be read, and its sums, one a site."""
        shrunk = self.launch.scratch(num_splits, self.num_rows, len(sites))
        shrunk.h_TXP.fill_(torch.nan)
        sums = []
        for g, site in enumerate(sites):
            h_TR = torch.zeros(self.num_rows, self.capacity, device=self.device)
            for t, adapter in enumerate(self.launch.row_tiles.row_adapters_T.tolist()):
                rank = 0 if adapter == BASE else self.case.ranks[adapter][site.index]
                splits = self.random(rank, num_splits, dtype=torch.float32)
                shrunk.h_TXP[t, g * self.capacity :][:rank, :num_splits] = splits
                h_TR[t, :rank] = splits.double().sum(1).float()
            sums.append(h_TR)
        return shrunk, sums

    def check_shrunk(self, found: Shrunk, x_TK: Tensor, sites: Sequence[LoraSite]) -> None:
        """Live ranks are x A^T; nothing else is written (memory is poisoned)."""
        for g, site in enumerate(sites):
            exact_TR = self.reference.shrink(x_TK, site, self.capacity)
            found_TRP = found.h_TXP[:, g * self.capacity : (g + 1) * self.capacity, : found.num_splits]
            for t, adapter in enumerate(self.launch.row_tiles.row_adapters_T.tolist()):
                rank = 0 if adapter == BASE else self.case.ranks[adapter][site.index]
                self.check(
                    found_TRP[t, :rank].sum(-1), exact_TR[t, :rank], site.in_features, is_rounded=False
                )
                assert bool(found_TRP[t, rank:].isnan().all())

    def check(self, found: Tensor, exact: Tensor, num_terms: int, *, is_rounded: bool = True) -> None:
        """Float32 sums of `num_terms` terms and, in 16 bits, h and the result each rounded once."""
        if not exact.numel():
            return
        largest = float(exact.abs().max())
        rounding = ROUNDING[self.dtype] if is_rounded else 0.0
        # h's rounding shows as one of the delta, which is at most a few times the result.
        atol = (num_terms * 2**-23 + 2 * rounding) * max(1.0, largest)
        torch.testing.assert_close(found.double(), exact, rtol=rounding + 2**-20, atol=atol)


def run_residual(world: FusedWorld) -> list[Tensor]:
    hidden, y = (
        world.random(world.num_rows, world.case.hidden),
        world.random(world.num_rows, world.case.hidden),
    )
    shrunk, (h_TR,) = world.shrunk(world.sites[6:], 3)
    exact = world.reference.residual_expand(hidden, y, h_TR, world.sites[6])
    sums_TC = residual_expand_(world.launch, hidden, y, shrunk, world.sites[6])
    world.check(hidden, exact, 70)
    squares_T = hidden.double().square().sum(1)
    torch.testing.assert_close(sums_TC.double().sum(1), squares_T, rtol=2**-18, atol=0)
    alone_TC = square_sums(world.launch, hidden)
    torch.testing.assert_close(alone_TC.double().sum(1), squares_T, rtol=2**-18, atol=0)
    return [hidden, sums_TC]


def run_norm_shrink(world: FusedWorld) -> list[Tensor]:
    hidden = world.random(world.num_rows, world.case.hidden)
    weight_H = world.random(world.case.hidden)
    sums_TC = square_sums(world.launch, hidden)
    x, shrunk = norm_shrink(world.launch, hidden, sums_TC, weight_H, EPS, world.sites[:3])
    world.check(x, world.reference.norm(hidden, weight_H, EPS), world.case.hidden)
    world.check_shrunk(shrunk, x, world.sites[:3])
    attended = world.random(world.num_rows, world.sites[3].in_features)
    alone = shrink(world.launch, attended, world.sites[3])
    world.check_shrunk(alone, attended, world.sites[3:4])
    return [x, shrunk.h_TXP[..., : shrunk.num_splits], alone.h_TXP[..., : alone.num_splits]]


def run_rope(world: FusedWorld) -> list[Tensor]:
    case, num_rows = world.case, world.num_rows
    kv_features = case.kv_heads * case.head_dim
    width = case.query_heads * case.head_dim + 2 * kv_features
    qkv, bias = world.random(num_rows, width), world.random(width) if case.has_bias else None
    shrunk, hs = world.shrunk(world.sites[:3], 5)
    angles = 9 * world.random(num_rows, case.head_dim, dtype=torch.float32)
    order = torch.randperm(2 * num_rows, generator=torch.Generator().manual_seed(3))[:num_rows].tolist()
    slots = [slot if slot % 5 else -1 for slot in order]
    num_pages = -(-2 * num_rows // PAGE_TOKENS)
    pool = torch.full((num_pages * LAYERS * 2 * PAGE_TOKENS * kv_features,), 7.0, dtype=world.dtype)
    kv = PagedKv(pool.to(world.device), LAYERS, PAGE_TOKENS, case.kv_heads, case.head_dim)
    norms = (world.random(case.head_dim), world.random(case.head_dim)) if case.has_norms else None
    turn = HeadTurn(
        angles.cos(), angles.sin(), torch.tensor(slots, device=world.device), kv, LAYER, norms, EPS
    )
    query = rope_expand(world.launch, qkv, bias, shrunk, world.sites[:3], turn)
    heads = [
        z.view(num_rows, -1, case.head_dim) for z in world.reference.heads(qkv, bias, hs, world.sites[:3])
    ]
    if norms is not None:
        heads[:2] = [world.reference.norm(z, w, EPS) for z, w in zip(heads[:2], norms, strict=True)]
    q, k = (world.reference.turn(z, angles.cos(), angles.sin()) for z in heads[:2])
    world.check(query, q, 90)
    found = kv.pool_E.view(num_pages, LAYERS, 2, PAGE_TOKENS, case.kv_heads, case.head_dim)
    untouched = torch.ones(found.shape[:4], dtype=torch.bool)
    for row, slot in enumerate(slots):
        if slot >= 0:
            page, offset = divmod(slot, PAGE_TOKENS)
            world.check(found[page, LAYER, 0, offset], k[row], 90)
            world.check(found[page, LAYER, 1, offset], heads[2][row], 90)
            untouched[page, LAYER, :, offset] = False
    assert bool((found.cpu()[untouched] == 7.0).all())
    return [query, kv.pool_E]


def run_combine(world: FusedWorld) -> list[Tensor]:
    shape = (world.num_rows, world.case.query_heads, 4)
    partial = world.random(*shape, world.case.head_dim, dtype=torch.float32)
    tops = world.random(*shape, dtype=torch.float32)
    totals = world.random(*shape, dtype=torch.float32).abs() + 0.1
    # Shares without keys, and a row without any.
    for empty in (tops[:, :, 2:], tops[:1]):
        empty.fill_(-torch.inf)
    for empty in (totals[:, :, 2:], totals[:1]):
        empty.fill_(0.0)
    partial[:, :, 2:], partial[:1] = torch.nan, torch.nan
    x, shrunk = combine_shrink(world.launch, KeyShares(partial, tops, totals), world.dtype, world.sites[3])
    world.check(x, world.reference.combine(partial, tops, totals), 8)
    world.check_shrunk(shrunk, x, world.sites[3:4])
    return [x, shrunk.h_TXP[..., : shrunk.num_splits]]


def run_silu(world: FusedWorld) -> list[Tensor]:
    y = world.random(world.num_rows, 2 * world.case.features)
    shrunk, hs = world.shrunk(world.sites[4:6], 2)
    x = silu_expand(world.launch, y, shrunk, world.sites[4:6])
    exact = world.reference.silu_mul(y, hs, world.sites[4:6])
    # An error of gate counts as many times as up is large.
    world.check(x, exact, 700)
    following = shrink(world.launch, x, world.sites[6])
    world.check_shrunk(following, x, world.sites[6:])
    return [x, following.h_TXP[..., : following.num_splits]]


RUNS = {
    "residual": run_residual,
    "norm_shrink": run_norm_shrink,
    "rope": run_rope,
    "combine": run_combine,
    "silu": run_silu,
}


def check_fused(
    kernel: str, name: str, dtype: torch.dtype, device: str, tiles: FusedTiles | None = SMALL_TILES
) -> list[Tensor]:
    """The kernel's results are right; all that it wrote."""
    with poisoned_memory():
        return RUNS[kernel](FusedWorld(FUSED_CASES[name], dtype, device, tiles))


def check_same_bits(kernel: str, name: str, dtype: torch.dtype, device: str) -> None:
    """The second time, what it wrote is the same."""
    once, again = (check_fused(kernel, name, dtype, device) for _ in range(2))
    for first, second in zip(once, again, strict=True):
        assert torch.equal(first.nan_to_num(), second.nan_to_num())


def check_rows_alone(dtype: torch.dtype, device: str) -> None:
    """A row that is alone in its tile gets the same bits in a mixed batch and in one of its own."""
    case = FUSED_CASES["base_between"]
    mixed = FusedWorld(case, dtype, device, SMALL_TILES)
    hidden, y = (mixed.random(mixed.num_rows, case.hidden) for _ in range(2))
    gate_up, weight_H = mixed.random(mixed.num_rows, 2 * case.features), mixed.random(case.hidden)
    down_h, _ = mixed.shrunk(mixed.sites[6:], 3)
    gate_up_h, _ = mixed.shrunk(mixed.sites[4:6], 2)

    def run(world: FusedWorld, rows: slice) -> list[Tensor]:
        def part(shrunk: Shrunk) -> Shrunk:
            return Shrunk(shrunk.h_TXP[rows].contiguous(), shrunk.num_splits)

        stream = hidden[rows].clone()
        sums_TC = residual_expand_(world.launch, stream, y[rows], part(down_h), world.sites[6])
        x, shrunk = norm_shrink(world.launch, stream, sums_TC, weight_H, EPS, world.sites[:3])
        inner = silu_expand(world.launch, gate_up[rows], part(gate_up_h), world.sites[4:6])
        following = shrink(world.launch, inner, world.sites[6])
        return [stream, sums_TC, x, shrunk.h_TXP, inner, following.h_TXP]

    with poisoned_memory():
        together = run(mixed, slice(None))
        for adapter, start, stop in mixed.launch.row_tiles.tiles_W3.tolist():
            if stop - start == 1:
                alone = run(FusedWorld(case, dtype, device, SMALL_TILES, ((adapter, 1),)), slice(start, stop))
                for both, one in zip(together, alone, strict=True):
                    assert torch.equal(both[start:stop].nan_to_num(), one.nan_to_num())
