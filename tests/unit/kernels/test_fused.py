"""The fused LoRA kernels in Triton's interpreter, against plain float64 arithmetic."""

import pytest
import torch

if torch.cuda.is_available():
    pytest.skip("compiled Triton takes no CPU tensors; tests/gpu runs these there", allow_module_level=True)

from tests.fused_checks import FUSED_CASES, RUNS, check_fused, check_rows_alone, check_same_bits

EVERY_KERNEL = pytest.mark.parametrize("kernel", RUNS)


@EVERY_KERNEL
@pytest.mark.parametrize("name", FUSED_CASES)
def test_exact_in_float32(kernel: str, name: str):
    check_fused(kernel, name, torch.float32, "cpu")


@EVERY_KERNEL
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_sixteen_bits_lose_a_rounding_or_two(kernel: str, dtype: torch.dtype):
    check_fused(kernel, "skewed", dtype, "cpu")


@EVERY_KERNEL
def test_the_same_bits_every_time(kernel: str):
    check_same_bits(kernel, "uniform", torch.float32, "cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_row_has_the_same_bits_in_a_mixed_batch_and_alone(dtype: torch.dtype):
    check_rows_alone(dtype, "cpu")


@EVERY_KERNEL
@pytest.mark.parametrize("name", ["base_between", "prefill"])
def test_the_sizes_that_are_served(kernel: str, name: str):
    check_fused(kernel, name, torch.float32, "cpu", None)
