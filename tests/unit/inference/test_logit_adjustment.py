from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from services.inference.model.last_tokens import LastTokens, row_of_last
from services.inference.request import SamplingParams
from services.inference.sampler_row import SamplerRow
from tests.sampling import adjusted_logits

VOCAB_SIZE = 12


def _row(prompt: tuple[int, ...] = (), generated: tuple[int, ...] = (), **params: Any) -> SamplerRow:
    return SamplerRow(SamplingParams(temperature=0.0, **params), prompt, generated, eos_token_ids=(2, 3))


def _logits(num_rows: int = 1) -> Tensor:
    return torch.randn(num_rows, VOCAB_SIZE, generator=torch.Generator().manual_seed(num_rows)) * 3


def test_rows_without_adjustments_are_not_copied() -> None:
    logits = _logits(2)
    assert adjusted_logits(logits, [_row(), _row((1,), (2,), min_tokens=1)]) is logits


def test_the_input_is_left_as_it_is() -> None:
    logits = _logits()
    before = logits.clone()
    adjusted_logits(logits, [_row((1,), (2,), min_tokens=4, presence_penalty=1.0, logit_bias=((1, 2.0),))])
    assert torch.equal(logits, before)


@pytest.mark.parametrize(
    ("num_generated", "ignore_eos", "masked"),
    [(0, False, {2, 3, 7}), (2, False, {2, 3, 7}), (3, False, set()), (2, True, {7})],
)
def test_min_tokens_masks_what_would_end_the_row(
    num_generated: int, ignore_eos: bool, masked: set[int]
) -> None:
    row = _row((), (1,) * num_generated, min_tokens=3, stop_token_ids=(7,), ignore_eos=ignore_eos)
    adjusted = adjusted_logits(_logits(), [row])[0]
    assert {token for token in range(VOCAB_SIZE) if adjusted[token] == float("-inf")} == masked


def test_an_end_token_beyond_the_vocabulary_is_no_mask() -> None:
    row = SamplerRow(SamplingParams(temperature=0.0, min_tokens=1), (), (), eos_token_ids=(VOCAB_SIZE,))
    assert torch.equal(adjusted_logits(_logits(), [row]), _logits())


def test_logit_bias_is_added_in_its_own_row_only() -> None:
    adjusted = adjusted_logits(_logits(2), [_row(logit_bias=((4, 2.5), (11, -100.0))), _row()])
    expected = _logits(2)
    expected[0, 4] += 2.5
    expected[0, 11] -= 100.0
    assert torch.equal(adjusted, expected)


def _reference(logits: list[float], row: SamplerRow) -> list[float]:
    params, counts = row.params, Counter(row.generated_token_ids)
    result = []
    for token, logit in enumerate(logits):
        if token in counts or token in row.prompt_token_ids:
            penalty = params.repetition_penalty
            logit = logit / penalty if logit > 0 else logit * penalty
        logit -= params.frequency_penalty * counts[token]
        logit -= params.presence_penalty * (token in counts)
        result.append(logit)
    return result


def test_the_smallest_penalty_leaves_something_to_choose_by() -> None:
    adjusted = adjusted_logits(_logits(), [_row(tuple(range(VOCAB_SIZE)), repetition_penalty=1e-45)])
    assert torch.isfinite(adjusted).all()
    assert set(range(VOCAB_SIZE)) == {*(adjusted[0] > 0).nonzero().flatten().tolist()} | {
        *(_logits()[0] <= 0).nonzero().flatten().tolist()
    }


@pytest.mark.parametrize(
    "params",
    [
        {"repetition_penalty": 1.7},
        {"repetition_penalty": 0.5},
        {"frequency_penalty": 0.8},
        {"presence_penalty": -1.2},
        {"repetition_penalty": 1.3, "frequency_penalty": -0.4, "presence_penalty": 0.9},
    ],
)
def test_penalties_match_a_token_by_token_reference(params: dict[str, float]) -> None:
    rows = [
        _row((0, 1, 1, 5), (5, 6, 6, 6, 9), **params),
        _row((), (), **params),
        _row((3, 3), ()),
        _row((4,), (0,), **params),
    ]
    logits = _logits(4)
    expected = [_reference(values, row) for values, row in zip(logits.tolist(), rows, strict=True)]
    torch.testing.assert_close(adjusted_logits(logits, rows), torch.tensor(expected), rtol=1e-6, atol=1e-6)


def test_a_penalty_counts_the_token_in_flight() -> None:
    last = LastTokens(2, _logits().device)
    last.write_(torch.tensor([9, 4]))
    params = {"presence_penalty": 0.5, "frequency_penalty": 0.25, "repetition_penalty": 1.5}
    known, unknown = _row((1,), (4, 4), **params), _row((1,), (4,), **params)
    unknown = replace(unknown, token_in_flight=row_of_last(1))
    assert torch.equal(adjusted_logits(_logits(), [unknown], last), adjusted_logits(_logits(), [known]))
