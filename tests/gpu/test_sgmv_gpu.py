"""Compiled Triton kernels, and torch ops, on a CUDA device against dense float64 arithmetic."""

from contextlib import nullcontext

import pytest
import torch

from kernels.choose import make_sgmv
from kernels.rank_row_table import RankRowTable
from kernels.reference import ReferenceSgmv
from kernels.segments import BASE
from kernels.sgmv import Sgmv
from kernels.sgmv_torch import TorchSgmv
from tests.lora_cases import make_sites, make_world
from tests.sgmv_checks import (
    CASES,
    MakeSgmv,
    SgmvCase,
    check_add,
    check_embedding,
    check_rows_alone,
    make_inputs,
    poisoned_memory,
)


def _triton(table: RankRowTable) -> Sgmv:
    from kernels.sgmv_triton import TritonSgmv

    return TritonSgmv(table)


EVERY = pytest.mark.parametrize(
    "make", [pytest.param(_triton, id="triton"), pytest.param(TorchSgmv, id="torch")]
)
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)

MODEL_SIZED = {
    "decode_32_distinct": SgmvCase(
        2048,
        (2048, 512, 512),
        tuple((rank, rank, rank) for rank in (4, 8, 12, 16, 24, 32, 48, 64) * 4),
        (*((a, 1) for a in range(32)), (BASE, 4)),
        dora=(3, 9),
        page_elements=1 << 17,
    ),
    "prefill_4_distinct": SgmvCase(
        2048,
        (5632, 5632),
        ((16, 16), (64, 8), (3, 0), (32, 32)),
        ((0, 700), (1, 257), (BASE, 100), (2, 64), (3, 1)),
        dora=(1,),
        page_elements=1 << 17,
    ),
    "decode_wide_input": SgmvCase(
        14336, (4096,), ((16,), (48,)), ((0, 1), (1, 3), (BASE, 1)), page_elements=1 << 18
    ),
}
ALL_CASES = {**CASES, **MODEL_SIZED}


@EVERY
@DTYPES
@pytest.mark.parametrize("name", ALL_CASES)
def test_add(make: MakeSgmv, name: str, dtype: torch.dtype):
    with poisoned_memory() if make is _triton else nullcontext():
        check_add(make, ALL_CASES[name], dtype, "cuda")


@EVERY
@DTYPES
@pytest.mark.parametrize("name", ["decode_with_base", "decode_uneven_runs", "prefill_and_decode"])
def test_a_row_is_the_same_in_a_mixed_batch_and_alone(make: MakeSgmv, name: str, dtype: torch.dtype):
    check_rows_alone(make, CASES[name], dtype, "cuda")


@EVERY
@DTYPES
def test_embedding(make: MakeSgmv, dtype: torch.dtype):
    check_embedding(make, dtype, "cuda")


@DTYPES
@pytest.mark.parametrize("name", ["decode_32_distinct", "prefill_4_distinct"])
def test_the_same_bits_every_time(name: str, dtype: torch.dtype):
    case = ALL_CASES[name]
    world = case.world(dtype, "cuda")
    segments = world.segments(case.runs)
    results = []
    for _ in range(5):
        inputs = make_inputs(case, dtype, "cuda")
        _triton(world.table).add_(inputs.y_TN, inputs.x_TK, world.table.sites, segments, inputs.bias_N)
        results.append(inputs.y_TN)
    assert all(torch.equal(results[0], result) for result in results[1:])


def test_a_16_bit_pool_serves_float32_activations():
    case = CASES["prefill_and_decode"]
    world = case.world(torch.bfloat16, "cuda")
    exact, inputs = make_inputs(case, torch.float32, "cuda"), make_inputs(case, torch.float32, "cuda")
    segments, sites = world.segments(case.runs), world.table.sites
    _triton(world.table).add_(inputs.y_TN, inputs.x_TK, sites, segments, inputs.bias_N)
    ReferenceSgmv(world.table).add_(exact.y_TN, exact.x_TK, sites, segments, exact.bias_N)
    torch.testing.assert_close(inputs.y_TN, exact.y_TN, rtol=1e-4, atol=1e-4)


@DTYPES
def test_offsets_beyond_32_bits(dtype: torch.dtype):
    """An adapter whose rank rows lie past 2**31 elements of the pool."""
    sites = make_sites((64, 64))
    low = make_world(sites, ((16,),), dtype=dtype, device="cuda")
    far = 2**31 + 4096
    pool = torch.empty(far + low.table.pool_E.numel(), dtype=dtype, device="cuda")
    pool[far:] = low.table.pool_E
    table = RankRowTable(pool, sites, 1, 64, low.table.page_elements)
    rows = low.table.rows(0)[0]
    moved = type(rows)(
        0,
        rows.rank,
        rows.scale,
        tuple(o + far for o in rows.a_offsets),
        tuple(o + far for o in rows.b_offsets),
    )
    table.write(0, [moved])
    x_TK = torch.randn(3, 64, device="cuda").to(dtype)
    near_TN, far_TN = (
        torch.zeros(3, 64, device="cuda", dtype=dtype),
        torch.zeros(3, 64, device="cuda", dtype=dtype),
    )
    segments = low.segments([(0, 3)])
    _triton(low.table).add_(near_TN, x_TK, sites, segments, None)
    _triton(table).add_(far_TN, x_TK, sites, segments, None)
    assert torch.equal(near_TN, far_TN)


def test_cuda_gets_triton():
    world = make_world(make_sites((16, 16)), ((4,),), device="cuda")
    assert type(make_sgmv(world.table)).__name__ == "TritonSgmv"
