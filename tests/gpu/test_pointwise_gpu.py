"""Norm, activation, rope and KV write compiled for the device, against float64."""

import pytest
import torch

from tests.pointwise_checks import check_norm, check_pick_tokens, check_rope_kv_write, check_silu_mul

EVERY_DTYPE = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)


@EVERY_DTYPE
@pytest.mark.parametrize(("num_rows", "hidden"), [(1, 64), (5, 100), (33, 4096), (2, 8200)])
def test_norm(num_rows: int, hidden: int, dtype: torch.dtype):
    check_norm(num_rows, hidden, dtype, "cuda")


@EVERY_DTYPE
@pytest.mark.parametrize(("num_rows", "features"), [(1, 40), (3, 14336)])
def test_silu_mul(num_rows: int, features: int, dtype: torch.dtype):
    check_silu_mul(num_rows, features, dtype, "cuda")


@EVERY_DTYPE
@pytest.mark.parametrize("has_norm", [False, True])
@pytest.mark.parametrize(
    ("heads_a_group", "kv_heads", "head_dim"), [(4, 8, 128), (3, 1, 20), (1, 3, 8), (8, 2, 64)]
)
def test_rope_kv_write(heads_a_group: int, kv_heads: int, head_dim: int, has_norm: bool, dtype: torch.dtype):
    check_rope_kv_write(heads_a_group, kv_heads, head_dim, has_norm, dtype, "cuda")


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
@pytest.mark.parametrize("num_tokens", [1, 300])
def test_pick_tokens(num_tokens: int, dtype: torch.dtype):
    check_pick_tokens(num_tokens, dtype, "cuda")
