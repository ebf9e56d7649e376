import math

import pytest
import torch

from services.inference.adapters.finite import is_finite

DTYPES = [torch.float32, torch.float16, torch.bfloat16]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_finite_extreme_is_finite(dtype):
    info = torch.finfo(dtype)
    extremes = [info.max, info.min, info.tiny, -info.tiny, info.smallest_normal / 2, 0.0, -0.0, 1.0]
    assert is_finite(torch.tensor(extremes, dtype=dtype))
    assert is_finite(torch.empty(0, 3, dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan, -math.nan])
@pytest.mark.parametrize("where", [0, 7, 99])
def test_one_value_that_is_not_is_found(dtype, bad, where):
    values = torch.full((100,), torch.finfo(dtype).max, dtype=dtype)
    values[where] = bad
    assert not is_finite(values.view(10, 10))
    assert not is_finite(values.view(10, 10).T)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_it_is_isfinite_for_every_pattern_of_16_bits(dtype):
    patterns = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int16).view(dtype)
    found = torch.tensor([is_finite(patterns[i : i + 1]) for i in range(0, len(patterns), 7)])
    assert torch.equal(found, torch.isfinite(patterns[::7]))
