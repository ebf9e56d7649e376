"""Training examples and the loop that fits a model to them."""

from types import SimpleNamespace

import pytest
import torch

from demo.train.examples import IGNORED, MAX_TOKENS, Examples
from demo.train.fit import Schedule, exact_share, fit
from demo.train.tokens import BOS_ID, EOS_ID, PAD_ID, SEP_ID, VOCAB_SIZE, encode

CPU = torch.device("cpu")


class NextTokenTable(torch.nn.Module):
    """The logits of the next token by the present one alone: the smallest thing `fit` can train."""

    def __init__(self) -> None:
        super().__init__()
        self.table_VV = torch.nn.Parameter(torch.zeros(VOCAB_SIZE, VOCAB_SIZE))

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> SimpleNamespace:
        return SimpleNamespace(logits=self.table_VV[input_ids])


def test_examples_ask_for_the_answer_and_its_end_alone() -> None:
    examples = Examples.of([("ab", "cd"), ("abc", "d")], CPU)
    tokens_BL, labels_BL = examples.batch(torch.tensor([0]))
    assert tokens_BL.tolist() == [[BOS_ID, *encode("ab"), SEP_ID, *encode("cd"), EOS_ID]]
    assert labels_BL.tolist() == [[IGNORED] * 3 + [*encode("cd"), EOS_ID, IGNORED]]


def test_a_batch_is_cut_to_its_longest_example() -> None:
    examples = Examples.of([("a", "b"), ("abc", "def")], CPU)
    tokens_BL, labels_BL = examples.batch(torch.tensor([0, 1]))
    assert tokens_BL.shape == labels_BL.shape == (2, 9)
    assert tokens_BL[0, 5:].tolist() == [PAD_ID] * 4
    assert examples.batch(torch.tensor([0]))[0].shape == (1, 5)


def test_examples_over_the_limit_are_left_out() -> None:
    room = MAX_TOKENS - 3
    assert len(Examples.of([("a", "b" * (room - 1)), ("a", "b" * room)], CPU)) == 1


def test_fit_learns_and_stops_once_it_is_good_enough() -> None:
    torch.manual_seed(0)
    examples = Examples.of([("a", "b"), ("c", "b")], CPU)
    model = NextTokenTable()
    seen: list[tuple[int, float]] = []
    schedule = Schedule(1000, batch_size=4, peak_lr=0.1, warmup_steps=1, measure_every=10, enough=1.0)
    assert exact_share(model, examples) == 0.0
    fit(model, examples, examples, schedule, lambda step, _loss, accuracy: seen.append((step, accuracy)))
    first_right = next(step for step, accuracy in seen if accuracy == 1.0)
    assert seen[-1] == (first_right + 10, 1.0)


def test_one_wrong_token_makes_an_answer_wrong() -> None:
    examples = Examples.of([("a", "bb"), ("a", "b")], CPU)
    model = NextTokenTable()
    with torch.no_grad():
        model.table_VV[SEP_ID, encode("b")[0]] = 1.0
        model.table_VV[encode("b")[0], EOS_ID] = 1.0
    assert exact_share(model, examples) == pytest.approx(0.5)
