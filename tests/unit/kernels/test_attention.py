"""Paged attention in Triton's interpreter, against float64 row by row."""

import pytest
import torch

if torch.cuda.is_available():
    pytest.skip("compiled Triton takes no CPU tensors; tests/gpu runs these there", allow_module_level=True)

from kernels.decode_attention import decode_attention
from kernels.prefill_attention import query_tiles
from kernels.tuning import num_key_splits
from tests.attention_checks import (
    DECODE_CASES,
    LAYER,
    PREFILL_CASES,
    AttentionCase,
    PagedSequences,
    check_decode,
    check_prefill,
)

SIXTEEN_BITS = [torch.bfloat16, torch.float16]


@pytest.mark.parametrize("name", DECODE_CASES)
def test_decode_is_exact_in_float32(name: str):
    check_decode(DECODE_CASES[name], torch.float32, "cpu")


@pytest.mark.parametrize("name", PREFILL_CASES)
def test_prefill_is_exact_in_float32(name: str):
    check_prefill(PREFILL_CASES[name], torch.float32, "cpu")


@pytest.mark.parametrize("dtype", SIXTEEN_BITS, ids=str)
def test_sixteen_bits_lose_some_roundings(dtype: torch.dtype):
    check_decode(DECODE_CASES["odd_contexts"], dtype, "cpu")
    check_prefill(PREFILL_CASES["odd_contexts"], dtype, "cpu")


def test_nan_keys_show_in_their_own_sequence_and_in_no_other():
    case = AttentionCase((70, 40))
    sequences = PagedSequences(case, torch.float32, "cpu")
    page = int(sequences.pages_X[sequences.firsts[1]])
    sequences.kv.pool_E.view(-1, sequences.kv.page_elements)[page] = float("nan")
    out_NX = decode_attention(
        sequences.query(2),
        sequences.kv,
        LAYER,
        sequences.ints(case.contexts),
        sequences.ints(sequences.firsts),
        sequences.pages_X,
        None,
    )
    assert bool(out_NX[0].isfinite().all())
    assert bool(out_NX[1].isnan().all())


@pytest.mark.parametrize("programs", [1, 8, 256, 2048])
def test_splits_are_a_power_of_two_from_two_on(programs: int):
    splits = num_key_splits(programs)
    assert splits >= 2
    assert splits & (splits - 1) == 0


def test_tiles_cover_every_row_once_at_its_position():
    tiles = query_tiles([0, 5, 6], [20, 9], [3, 7], 2)
    assert tiles == [(3, 0, 2, 15), (3, 2, 2, 17), (3, 4, 1, 19), (7, 5, 1, 8)]
