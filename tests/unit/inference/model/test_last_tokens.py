import pytest
import torch

from services.inference.model.last_tokens import LastTokens, row_of_last
from tests.unit.inference.model.tiny_checkpoint import CPU


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
def test_a_row_of_the_last_step_becomes_its_token(dtype: torch.dtype) -> None:
    last = LastTokens(4, CPU)
    last.write_(torch.tensor([70, 71, 72]))
    ids = torch.tensor([row_of_last(2), 0, 5, row_of_last(0), row_of_last(2)], dtype=dtype)
    last.pick_(ids)
    assert ids.tolist() == [72, 0, 5, 70, 72]


def test_a_smaller_step_leaves_its_own_rows() -> None:
    last = LastTokens(4, CPU)
    last.write_(torch.tensor([70, 71, 72]))
    last.write_(torch.tensor([80]))
    ids = torch.tensor([row_of_last(0)])
    last.pick_(ids)
    assert ids.tolist() == [80]
