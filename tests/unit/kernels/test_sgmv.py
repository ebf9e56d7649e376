"""Every implementation of Sgmv against dense float64 arithmetic; Triton in its interpreter."""

from functools import partial

import pytest
import torch

from kernels.choose import make_sgmv
from kernels.rank_row_table import RankRowTable
from kernels.reference import ReferenceSgmv
from kernels.sgmv import Sgmv
from kernels.sgmv_torch import TorchSgmv
from tests.lora_cases import make_sites, make_world
from tests.sgmv_checks import (
    CASES,
    MakeSgmv,
    check_add,
    check_embedding,
    check_rows_alone,
    make_inputs,
    poisoned_memory,
)


def _triton(table: RankRowTable) -> Sgmv:
    if torch.cuda.is_available():
        pytest.skip("compiled Triton takes no CPU tensors; tests/gpu runs these cases there")
    from kernels.sgmv_triton import TritonSgmv

    return TritonSgmv(table)


EVERY = pytest.mark.parametrize(
    "make",
    [
        pytest.param(ReferenceSgmv, id="reference"),
        pytest.param(TorchSgmv, id="torch"),
        pytest.param(partial(TorchSgmv, max_copied_bytes=0), id="torch_in_place"),
        pytest.param(_triton, id="triton"),
    ],
)
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@EVERY
@pytest.mark.parametrize("name", CASES)
def test_add_is_exact_in_float32(make: MakeSgmv, name: str):
    with poisoned_memory():
        check_add(make, CASES[name], torch.float32, "cpu")


@EVERY
@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
@pytest.mark.parametrize("name", ["decode_with_base", "prefill_and_decode", "wide_input", "one_row_tiles"])
def test_add_in_16_bits_loses_one_rounding(make: MakeSgmv, name: str, dtype: torch.dtype):
    with poisoned_memory():
        check_add(make, CASES[name], dtype, "cpu")


@EVERY
@pytest.mark.parametrize("name", ["decode_with_base", "decode_uneven_runs", "prefill_and_decode"])
def test_a_row_is_the_same_in_a_mixed_batch_and_alone(make: MakeSgmv, name: str):
    check_rows_alone(make, CASES[name], torch.float32, "cpu")


@EVERY
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_embedding_reads_the_tokens_column(make: MakeSgmv, dtype: torch.dtype):
    with poisoned_memory():
        check_embedding(make, dtype, "cpu")


@EVERY
def test_a_16_bit_pool_serves_float32_activations(make: MakeSgmv):
    case = CASES["prefill_and_decode"]
    world = case.world(torch.bfloat16, "cpu")
    exact, inputs = make_inputs(case, torch.float32, "cpu"), make_inputs(case, torch.float32, "cpu")
    segments, sites = world.segments(case.runs), world.table.sites
    make(world.table).add_(inputs.y_TN, inputs.x_TK, sites, segments, inputs.bias_N)
    ReferenceSgmv(world.table).add_(exact.y_TN, exact.x_TK, sites, segments, exact.bias_N)
    torch.testing.assert_close(inputs.y_TN, exact.y_TN, rtol=1e-4, atol=1e-4)


@EVERY
def test_equals_the_merged_weight(make: MakeSgmv):
    """x (W + s B A)^T, and for DoRA x (m / ||W + s B A|| (W + s B A))^T, as a merged model computes."""
    sites = make_sites((40, 30))
    world = make_world(sites, ((12,), (24,)), dora=(1,))
    generator = torch.Generator().manual_seed(1)
    x_TK = torch.randn(6, 40, generator=generator)
    W_NK = torch.randn(30, 40, generator=generator)
    bias_N = torch.randn(30, generator=generator)
    y_TN = x_TK @ W_NK.T + bias_N
    expected = torch.empty(6, 30, dtype=torch.float64)
    for adapter, rows in ((0, slice(0, 2)), (1, slice(2, 6))):
        one = world.dense[adapter][0]
        merged_NK = W_NK.double() + one.scale * one.B_RN.T @ one.A_RK
        if one.dora_N is not None:
            norm_N = merged_NK.norm(dim=1)
            magnitude_N = (1 + one.dora_N) * norm_N
            merged_NK = magnitude_N[:, None] * merged_NK / norm_N[:, None]
        expected[rows] = x_TK[rows].double() @ merged_NK.T + bias_N
    make(world.table).add_(y_TN, x_TK, sites, world.segments([(0, 2), (1, 4)]), bias_N)
    torch.testing.assert_close(y_TN.double(), expected, rtol=1e-4, atol=1e-4)


@EVERY
@pytest.mark.parametrize("num_rows", [1, 40])
def test_new_weights_are_seen_at_once(make: MakeSgmv, num_rows: int):
    """An adapter rewritten under its index is served from nothing kept, not even in the same step."""
    sites = make_sites((16, 16))
    world = make_world(sites, ((8,), (4,)))
    table = world.table
    segments = world.segments([(0, num_rows)])
    x_TK, zero_TN = torch.ones(num_rows, 16), torch.zeros(num_rows, 16)
    sgmv = make(table)
    results = []
    for rows in (table.rows(0).values(), table.rows(1).values(), ()):
        table.write(0, tuple(rows))
        y_TN = zero_TN.clone()
        sgmv.add_(y_TN, x_TK, sites, segments, None)
        fresh_TN = zero_TN.clone()
        ReferenceSgmv(table).add_(fresh_TN, x_TK, sites, segments, None)
        torch.testing.assert_close(y_TN, fresh_TN, rtol=1e-4, atol=1e-4)
        results.append(y_TN)
    assert not torch.allclose(results[0], results[1])
    assert torch.equal(results[2], zero_TN)


@EVERY
@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")
def test_one_adapters_overflow_does_not_reach_another(make: MakeSgmv):
    sites = make_sites((16, 16))
    world = make_world(sites, ((8,), (4,)))
    runs = [(0, 1), (1, 1)]
    x_TK = torch.full((2, 16), 3.0e38)
    x_TK[1] = 1.0
    y_TN = torch.zeros(2, 16)
    make(world.table).add_(y_TN, x_TK, sites, world.segments(runs), None)
    assert not bool(y_TN[0].isfinite().all())
    assert bool(y_TN[1].isfinite().all())


def test_the_cpu_gets_torch_ops():
    assert isinstance(make_sgmv(make_world(make_sites((8, 8)), ((4,),)).table), TorchSgmv)
