from dataclasses import replace

import numpy as np

from benchmarks.shape import LLAMA_8B
from benchmarks.slora_trace import draw_trace

SIZES = LLAMA_8B.thousands


def test_the_draws_are_s_lora_s_in_their_order():
    trace, random = draw_trace(SIZES, 2000), np.random.RandomState(42)
    assert len(trace) == 1200
    assert [a.adapter for a in trace] == [int(p * 2000) for p in random.power(1.0, 1200)]
    assert [a.num_prompt_tokens for a in trace] == list(random.randint(8, 512, 1200))
    assert [a.num_output_tokens for a in trace] == list(random.randint(8, 512, 1200))
    np.testing.assert_allclose([a.due_s for a in trace], np.cumsum(random.gamma(1.0, 1 / 40, 1200)))


def test_both_replays_ask_for_the_same_tokens_at_the_same_times():
    few, many = draw_trace(SIZES, 5), draw_trace(SIZES, 2000)
    assert [(a.due_s, a.num_output_tokens) for a in few] == [(a.due_s, a.num_output_tokens) for a in many]
    assert max(a.adapter for a in few) == 4


def test_a_small_skew_favours_the_first():
    trace = draw_trace(replace(SIZES, skew=0.1), 1000)
    assert sum(a.adapter < 100 for a in trace) > len(trace) / 2
