"""Whether a request in a mixed batch gets what it gets alone: log-probabilities position by position.

A mixed batch says its tokens; each request then runs alone, is made to follow the same tokens, and the
log-probabilities of both are compared. Following: a run alone is taken up to the first token where the
two differ, and begins again behind it with the mixed batch's tokens as its prompt; so both runs have the
same history at every position. Must not know tables.

The bound: two runs that each err by e, independently of each other, lie e * sqrt(2) apart. And the check
is one that can fail: the same history on the base model, as if the delta were missing, must lie farther
apart than the bound.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.local_engine import LocalEngine, Prompt, Stream
from benchmarks.workbench import Workbench
from services.inference.messages import TokenLogprobs
from services.inference.request import SamplingParams

NUM_LOGPROBS = 20
NUM_ALONE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedCheck:
    """Root mean squares of mixed - alone: the worst stream's, and the least where the adapter is left out.

    `num_turns` runs alone were needed to follow: more than one a stream, where near ties fell otherwise.
    """

    num_streams: int
    num_positions: int
    num_turns: int
    worst_rms: float
    bound_rms: float
    without_adapter_rms: float

    @property
    def passed(self) -> bool:
        """Whether mixed is alone, and could be told from wrong; NaN never passes."""
        return self.worst_rms <= self.bound_rms < self.without_adapter_rms


def check_mixed(bench: Workbench, num_adapters: int, error_rms: float) -> MixedCheck:
    """One request on each of `num_adapters` adapters; `error_rms` is that of a run's log-probabilities."""
    prompts = bench.prompts(num_adapters, num_adapters)
    num_tokens = bench.shape.engine.num_prompt_tokens // 4 + 1
    mixed = bench.engine.generate(prompts, _greedy(num_tokens))
    spread = range(0, len(prompts), max(1, len(prompts) // NUM_ALONE))
    apart, without, num_turns = [], [], 0
    for index in spread:
        (adapter, token_ids), stream = prompts[index], mixed[index]
        alone, turns = follow(bench.engine, (adapter, token_ids), stream)
        base, _ = follow(bench.engine, (None, token_ids), stream)
        apart.append(rms_apart(stream.logprobs, alone))
        without.append(rms_apart(stream.logprobs, base))
        num_turns += turns
    return MixedCheck(
        num_streams=len(spread),
        num_positions=num_tokens,
        num_turns=num_turns,
        # A NaN among them must not be lost in the comparison.
        worst_rms=max(apart) if all(map(math.isfinite, apart)) else math.nan,
        bound_rms=math.sqrt(2) * error_rms,
        without_adapter_rms=min(without),
    )


def follow(engine: LocalEngine, prompt: Prompt, leader: Stream) -> tuple[list[TokenLogprobs], int]:
    """Log-probabilities of `prompt` alone, made to follow `leader`'s tokens, and the runs that it took."""
    adapter, token_ids = prompt
    found: list[TokenLogprobs] = []
    num_turns = 0
    while len(found) < len(leader.token_ids):
        history = [*token_ids, *leader.token_ids[: len(found)]]
        rest = leader.token_ids[len(found) :]
        (stream,) = engine.generate([(adapter, history)], _greedy(len(rest)))
        agreed = _num_agreed(stream.token_ids, rest)
        # Up to and with the first difference, both had the same history.
        found += stream.logprobs[: agreed + 1]
        num_turns += 1
    return found, num_turns


def rms_apart(ones: Sequence[TokenLogprobs], others: Sequence[TokenLogprobs]) -> float:
    """Root mean square of the differences of all log-probabilities that either names."""
    squares = [
        difference * difference
        for one, other in zip(ones, others, strict=True)
        for difference in _differences(dict(one.top), dict(other.top))
    ]
    return math.sqrt(sum(squares) / len(squares))


def _differences(one: dict[int, float], other: dict[int, float]) -> list[float]:
    # What one does not name is at most the least that it does: then this is the least difference.
    one_least, other_least = min(one.values()), min(other.values())
    found = []
    for token_id in one.keys() | other.keys():
        if token_id in one and token_id in other:
            found.append(one[token_id] - other[token_id])
        else:
            known, least = (one, other_least) if token_id in one else (other, one_least)
            found.append(max(0.0, known[token_id] - least))
    return found


def _num_agreed(ones: Sequence[int], others: Sequence[int]) -> int:
    pairs = enumerate(zip(ones, others, strict=True))
    return next((index for index, (one, other) in pairs if one != other), len(ones))


def _greedy(num_tokens: int) -> SamplingParams:
    return SamplingParams(max_tokens=num_tokens, temperature=0.0, ignore_eos=True, logprobs=NUM_LOGPROBS)
