"""Norm, activation, rope and KV write in Triton's interpreter, against float64."""

import pytest
import torch

if torch.cuda.is_available():
    pytest.skip("compiled Triton takes no CPU tensors; tests/gpu runs these there", allow_module_level=True)

from tests.pointwise_checks import check_norm, check_pick_tokens, check_rope_kv_write, check_silu_mul

EVERY_DTYPE = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)


@EVERY_DTYPE
@pytest.mark.parametrize(("num_rows", "hidden"), [(1, 64), (5, 100), (3, 4100)])
def test_norm(num_rows: int, hidden: int, dtype: torch.dtype):
    check_norm(num_rows, hidden, dtype, "cpu")


@EVERY_DTYPE
@pytest.mark.parametrize(("num_rows", "features"), [(1, 40), (3, 1500)])
def test_silu_mul(num_rows: int, features: int, dtype: torch.dtype):
    check_silu_mul(num_rows, features, dtype, "cpu")


@EVERY_DTYPE
@pytest.mark.parametrize("has_norm", [False, True])
@pytest.mark.parametrize(("heads_a_group", "kv_heads", "head_dim"), [(4, 2, 16), (3, 1, 20), (1, 3, 8)])
def test_rope_kv_write(heads_a_group: int, kv_heads: int, head_dim: int, has_norm: bool, dtype: torch.dtype):
    check_rope_kv_write(heads_a_group, kv_heads, head_dim, has_norm, dtype, "cpu")


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
@pytest.mark.parametrize("num_tokens", [1, 300])
def test_pick_tokens(num_tokens: int, dtype: torch.dtype):
    check_pick_tokens(num_tokens, dtype, "cpu")
