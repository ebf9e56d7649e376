import numpy as np
import pytest
import torch

from services.inference.adapters.tile_copy import bits, copy_floats

STORED = [torch.float32, torch.float16, torch.bfloat16]


def copied(values, dtype):
    out = torch.empty(values.shape, dtype=dtype)
    copy_floats(bits(out), dtype, bits(values), values.dtype)
    return out


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("kept", [torch.float32, torch.bfloat16])
def test_rounding_is_torch_s_own(stored, kept):
    patterns = torch.from_numpy(
        np.random.default_rng(0).integers(0, 1 << 32, 200_000, dtype=np.uint32).view(np.int32)
    )
    values = patterns.view(stored) if stored is torch.float32 else patterns.to(torch.int16).view(stored)
    values = values[torch.isfinite(values)]
    assert torch.equal(copied(values, kept).view(torch.uint8), values.to(kept).view(torch.uint8))


def test_halves_go_to_the_even_neighbour():
    halves = torch.tensor([1 + 2**-8, 1 + 3 * 2**-8, -(1 + 2**-8), torch.finfo(torch.float32).max])
    assert torch.equal(copied(halves, torch.bfloat16), halves.bfloat16())


def test_a_transposed_source_is_read_in_its_own_order():
    values = torch.randn(6, 4).bfloat16()
    assert torch.equal(copied(values.T, torch.bfloat16), values.T)


def test_a_format_that_is_not_packed_is_refused():
    with pytest.raises(ValueError, match="float16"):
        copied(torch.ones(3), torch.float16)
