"""Time counted down."""

import pytest

from benchmarks.budget import Budget


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_it_allows_what_ends_in_time(capsys: pytest.CaptureFixture[str]):
    clock = Clock()
    budget = Budget(10.0, clock)
    assert budget.allows(9.0)
    assert not budget.allows(10.0)
    clock.now_s += 4
    share = budget.share(0.5)
    assert (budget.left_s, share.left_s) == (6.0, 3.0)
    clock.now_s += 4
    assert (budget.left_s, share.left_s) == (2.0, -1.0)
    assert not share.allows(0)
    budget.say("here")
    assert capsys.readouterr().out == "[   8.0 s,    2.0 left] here\n"
