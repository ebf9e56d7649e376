"""Paged attention compiled for the device, against float64 row by row."""

import pytest
import torch

from tests.attention_checks import DECODE_CASES, PREFILL_CASES, AttentionCase, check_decode, check_prefill

BOTH_SERVED = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
LARGE = AttentionCase((513, 64, 1, 200), heads_a_group=4, kv_heads=8, head_dim=128)


@BOTH_SERVED
@pytest.mark.parametrize("case", [*DECODE_CASES.values(), LARGE], ids=[*DECODE_CASES, "large"])
def test_decode(case: AttentionCase, dtype: torch.dtype):
    check_decode(case, dtype, "cuda")


@BOTH_SERVED
@pytest.mark.parametrize("case", [*PREFILL_CASES.values(), LARGE], ids=[*PREFILL_CASES, "large"])
def test_prefill(case: AttentionCase, dtype: torch.dtype):
    check_prefill(case, dtype, "cuda")


def test_float16():
    check_decode(LARGE, torch.float16, "cuda")
    check_prefill(LARGE, torch.float16, "cuda")
