"""A right engine passes, and what would be wrong in a batch fails."""

import math
from dataclasses import replace

import pytest

from benchmarks.local_engine import LocalEngine, Prompt, Stream
from benchmarks.mixed_check import check_mixed, follow, rms_apart
from benchmarks.output_check import MAX_OVER_PLAIN, check_logits
from benchmarks.workbench import Workbench
from services.inference.messages import TokenLogprobs
from services.inference.request import SamplingParams


def position(token_id: int, *top: tuple[int, float]) -> TokenLogprobs:
    return TokenLogprobs(token_id, dict(top)[token_id], top)


def test_a_right_engine_passes(bench: Workbench):
    found = check_mixed(bench, 4, MAX_OVER_PLAIN * check_logits(bench, 4).plain_rms)
    assert found.passed, found
    assert found.num_streams == 4


def test_a_request_on_another_s_adapter_fails(bench: Workbench, monkeypatch: pytest.MonkeyPatch):
    """Of the mixed batch one request runs on its neighbour's adapter: what a wrong table row would do."""
    generate = LocalEngine.generate

    def wrong(engine: LocalEngine, prompts: list[Prompt], sampling: SamplingParams) -> list[Stream]:
        if len(prompts) > 1:
            prompts = [*prompts[:-1], (prompts[0][0], prompts[-1][1])]
        return generate(engine, prompts, sampling)

    error_rms = MAX_OVER_PLAIN * check_logits(bench, 4).plain_rms
    monkeypatch.setattr(LocalEngine, "generate", wrong)
    found = check_mixed(bench, 4, error_rms)
    assert not found.passed
    assert found.worst_rms > 1000 * found.bound_rms


class Scripted:
    """An engine that says the token after next: never what the leader says at odd places."""

    def __init__(self) -> None:
        self.histories: list[list[int]] = []

    def generate(self, prompts, sampling):
        [(_, history)] = prompts
        self.histories.append(history)
        start = len(history) - 2
        ids = [100 + i if i % 2 else i for i in range(start, start + sampling.max_tokens)]
        return [Stream("r", 0.0, ids, [position(i, (i, -1.0)) for i in ids])]


def test_following_goes_on_behind_each_difference_with_the_leader_s_tokens():
    engine, leader = Scripted(), Stream("l", 0.0, [0, 1, 2, 3, 4])
    found, num_turns = follow(engine, (None, [7, 8]), leader)
    assert [one.token_id for one in found] == [0, 101, 2, 103, 4]
    assert engine.histories == [[7, 8], [7, 8, 0, 1], [7, 8, 0, 1, 2, 3]]
    assert num_turns == 3


def test_the_distance_counts_what_only_one_names_at_its_least():
    one = [position(1, (1, -1.0), (2, -2.0))]
    assert rms_apart(one, one) == 0
    assert rms_apart(one, [position(1, (1, -1.0), (2, -2.5))]) == math.sqrt(0.25 / 2)
    # Token 2 may be as likely as -3 there, token 3 as -2 here.
    assert rms_apart(one, [position(1, (1, -1.0), (3, -3.0))]) == math.sqrt(1 / 3)


def test_what_cannot_be_told_apart_or_is_no_number_does_not_pass(bench: Workbench):
    found = check_mixed(bench, 2, 1e-5)
    assert replace(found, worst_rms=found.bound_rms).passed
    assert not replace(found, worst_rms=math.nan).passed
    assert not replace(found, without_adapter_rms=found.bound_rms).passed
