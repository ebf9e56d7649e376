import math
import random
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor

from services.common.errors import Code, Reason
from services.inference.model.last_tokens import LastTokens, row_of_last
from services.inference.request import SamplingParams
from services.inference.sampler_row import SamplerRow
from tests.sampling import sample

NAN, INF = float("nan"), float("inf")


def _row(generated: tuple[int, ...] = (), eos: tuple[int, ...] = (), **params: Any) -> SamplerRow:
    return SamplerRow(SamplingParams(**{"seed": 0, **params}), (), generated, eos)


def _greedy(**params: Any) -> SamplerRow:
    return _row(temperature=0.0, seed=None, **params)


def _tokens(logits: Tensor, rows: list[SamplerRow]) -> list[int]:
    return [token.token_id for token in sample(logits, rows)]


def _drawn(logits_V: Tensor, count: int, **params: Any) -> Counter[int]:
    rows = [_row(seed=seed, **params) for seed in range(count)]
    return Counter(_tokens(logits_V.expand(count, -1), rows))


def _assert_distribution(drawn: Counter[int], probs: list[float]) -> None:
    """Each token's count within five standard errors; impossible tokens never."""
    total = sum(drawn.values())
    for token, prob in enumerate(probs):
        assert abs(drawn[token] - total * prob) <= 5 * math.sqrt(total * prob * (1 - prob)), token


LOGITS = torch.tensor([1.0, 3.0, 2.0, -1.0, 2.5, 0.0])


def test_temperature_zero_is_greedy_and_ties_go_to_the_lowest_id() -> None:
    logits = torch.tensor([[0.0, 2.0, 2.0, 1.0], [5.0, 5.0, 5.0, 5.0], [0.0, -1.0, 1.0, 7.0]])
    assert _tokens(logits, [_greedy()] * 3) == [1, 0, 3]


def test_draws_follow_the_softmax_of_logits_over_temperature() -> None:
    for temperature in (0.5, 1.0, 3.0):
        probs = (LOGITS / temperature).softmax(0).tolist()
        _assert_distribution(_drawn(LOGITS, 4000, temperature=temperature), probs)


def test_positions_of_one_seed_are_independent_draws() -> None:
    rows = [_row(generated=(0,) * position) for position in range(3000)]
    drawn = _tokens(LOGITS.expand(3000, -1), rows)
    _assert_distribution(Counter(drawn), LOGITS.softmax(0).tolist())
    pairs = Counter(zip(drawn[::2], drawn[1::2], strict=True))
    both_best = LOGITS.softmax(0)[1].item() ** 2
    assert abs(pairs[1, 1] - 1500 * both_best) < 5 * math.sqrt(1500 * both_best * (1 - both_best))


def _kept(logits: Tensor, kept: list[int]) -> list[float]:
    masked = torch.full_like(logits, -INF)
    masked[kept] = logits[kept]
    return masked.softmax(0).tolist()


@pytest.mark.parametrize(
    ("params", "kept"),
    [
        ({"top_k": 1}, [1]),
        ({"top_k": 3}, [1, 4, 2]),
        ({"top_k": 100}, [0, 1, 2, 3, 4, 5]),
        # Probabilities in order: 1: .459, 4: .278, 2: .169, 0: .062, 5: .023, 3: .008.
        ({"top_p": 0.4}, [1]),
        ({"top_p": 0.5}, [1, 4]),
        ({"top_p": 0.95}, [1, 4, 2, 0]),
        ({"top_p": 1e-9}, [1]),
        ({"min_p": 0.5}, [1, 4]),
        ({"min_p": 1.0}, [1]),
        ({"min_p": 0.01}, [0, 1, 2, 3, 4, 5]),
        # top_p counts what top_k kept as the whole: .459 / .906 = .507 and .278 / .906 = .307.
        ({"top_k": 3, "top_p": 0.8}, [1, 4]),
        ({"top_k": 2, "min_p": 0.3}, [1, 4]),
        ({"min_p": 0.3, "top_p": 0.82}, [1, 4, 2]),
    ],
)
def test_limits_keep_the_best_tokens_and_their_proportions(params: dict[str, Any], kept: list[int]) -> None:
    _assert_distribution(_drawn(LOGITS, 1500, **params), _kept(LOGITS, kept))


def test_limits_apply_after_the_temperature() -> None:
    # At temperature 1 the best token alone holds .459; at 4 it takes the best two to hold .458.
    _assert_distribution(_drawn(LOGITS, 1500, temperature=4.0, top_p=0.45), _kept(LOGITS / 4, [1, 4]))


def test_ties_at_the_limit_keep_the_lowest_ids() -> None:
    assert set(_drawn(torch.zeros(50), 300, top_k=3)) == {0, 1, 2}


@pytest.mark.parametrize("temperature", [1e-6, 1e-30, 1e-60])
def test_a_tiny_temperature_is_greedy_but_for_ties(temperature: float) -> None:
    logits = torch.tensor([1.0, 3.0, 2.999, 3.0, -4.0])
    assert set(_drawn(logits, 50, temperature=temperature, top_p=0.99, min_p=0.01)) == {1, 3}


def test_a_seeded_row_gets_its_tokens_alone_and_in_any_batch() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(40, 300, generator=generator) * 2
    shuffled = random.Random(2)
    rows = [_mixed_row(shuffled, index) for index in range(40)]
    together = sample(logits, rows)
    for index, row in enumerate(rows):
        assert sample(logits[index : index + 1], [row])[0].token_id == together[index].token_id
    order = shuffled.sample(range(40), 25)
    again = sample(logits[order], [rows[index] for index in order])
    assert [token.token_id for token in again] == [together[index].token_id for index in order]


def _mixed_row(values: random.Random, seed: int) -> SamplerRow:
    params = SamplingParams(
        seed=seed % 5,
        temperature=values.choice([0.0, 0.7, 1.5]),
        top_k=values.choice([0, 0, 5, 50]),
        top_p=values.choice([1.0, 0.9, 0.3]),
        min_p=values.choice([0.0, 0.1]),
        presence_penalty=values.choice([0.0, 1.0]),
        repetition_penalty=values.choice([1.0, 1.3]),
        min_tokens=values.choice([0, 9]),
        logit_bias=values.choice([(), ((5, 4.0), (6, -4.0))]),
        logprobs=values.choice([None, 3]),
    )
    generated = tuple(values.randrange(300) for _ in range(values.randrange(8)))
    return SamplerRow(params, (1, 2, 3), generated, (7,))


def test_different_seeds_differ() -> None:
    assert len(_drawn(torch.zeros(1000), 100)) > 50


@pytest.mark.parametrize("bad", [NAN, INF])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("adjusted", [False, True])
def test_a_row_without_usable_logits_fails_alone(bad: float, temperature: float, adjusted: bool) -> None:
    logits = LOGITS.repeat(3, 1)
    logits[1, 4] = bad
    penalty = {"presence_penalty": 1.0} if adjusted else {}
    rows = [_row(temperature=temperature, top_k=1, logprobs=2, **penalty) for _ in range(3)]
    first, second, third = sample(logits, rows)
    assert (first.token_id, third.token_id) == (1, 1)
    assert first.error is None
    assert second.token_id == -1
    assert second.logprobs is None
    assert second.error is not None
    assert (second.error.code, second.error.reason) == (Code.INTERNAL, Reason.INTERNAL_ERROR)


def test_a_mask_does_not_hide_nan_from_the_model() -> None:
    logits = LOGITS.clone()[None]
    logits[0, 2] = NAN
    assert sample(logits, [_row(eos=(2,), min_tokens=1)])[0].error is not None


def test_a_row_with_every_token_masked_fails() -> None:
    row = _row(eos=(0, 1, 2, 3, 4, 5), min_tokens=1)
    healthy = _greedy()
    masked, other = sample(LOGITS.repeat(2, 1), [row, healthy])
    assert masked.error is not None
    assert other.token_id == 1


def test_masked_and_excluded_tokens_are_never_drawn() -> None:
    logits = LOGITS.clone()
    logits[0] = -INF
    drawn = _drawn(logits, 2000, temperature=100.0, min_tokens=1, stop_token_ids=(1,))
    assert set(drawn) == {2, 3, 4, 5}


def test_bias_and_penalties_reach_greedy_rows() -> None:
    rows = [_greedy(), _greedy(logit_bias=((3, 10.0),)), _greedy(min_tokens=1, stop_token_ids=(1,))]
    rows.append(SamplerRow(SamplingParams(temperature=0.0, frequency_penalty=1.0), (), (1, 1), ()))
    assert _tokens(LOGITS.repeat(4, 1), rows) == [1, 3, 4, 4]


def test_logprobs_are_the_model_s_own_and_best_first() -> None:
    expected = LOGITS.log_softmax(0)
    rows = [
        _greedy(logprobs=2),
        _row(temperature=0.3, top_k=1, logprobs=0, logit_bias=((3, 50.0),)),
        _greedy(),
        _greedy(logprobs=20),
    ]
    best, biased, silent, all_of_them = sample(LOGITS.repeat(4, 1), rows)
    assert best.logprobs is not None
    assert best.logprobs.token_id == 1
    assert best.logprobs.logprob == pytest.approx(expected[1].item())
    assert [token for token, _ in best.logprobs.top] == [1, 4]
    assert [value for _, value in best.logprobs.top] == pytest.approx(expected[[1, 4]].tolist())
    assert biased.logprobs is not None
    assert (biased.token_id, biased.logprobs.top) == (3, ())
    assert biased.logprobs.logprob == pytest.approx(expected[3].item())
    assert silent.logprobs is None
    assert all_of_them.logprobs is not None
    assert [token for token, _ in all_of_them.logprobs.top] == [1, 4, 2, 0, 5, 3]


def test_the_logits_are_left_as_they_are() -> None:
    logits = LOGITS.repeat(2, 1)
    sample(logits, [_row(top_k=2, top_p=0.5, min_p=0.1), _row(repetition_penalty=1.2, generated=(1,))])
    assert torch.equal(logits, LOGITS.repeat(2, 1))


def test_a_token_in_flight_counts_like_one_that_is_known() -> None:
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(40, 300, generator=generator) * 2
    values = random.Random(3)
    known = [_mixed_row(values, index) for index in range(40)]
    known = [row for row in known if row.generated_token_ids]
    logits = logits[: len(known)]
    last = LastTokens(len(known), logits.device)
    last.write_(torch.tensor([row.generated_token_ids[-1] for row in known]))
    in_flight = [
        SamplerRow(row.params, row.prompt_token_ids, row.generated_token_ids[:-1], (7,), row_of_last(index))
        for index, row in enumerate(known)
    ]
    expected = sample(logits, known)
    assert sample(logits, in_flight, last) == expected
    # And the new ones are there for the step after.
    ids = torch.tensor([row_of_last(index) for index in range(len(known))])
    last.pick_(ids)
    assert ids.tolist() == [token.token_id for token in expected]
