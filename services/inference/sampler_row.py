"""What the sampler takes and gives, row by row.

Must not know torch.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.common.errors import ServiceError
from services.inference.messages import TokenLogprobs
from services.inference.request import SamplingParams


@dataclass(frozen=True, slots=True)
class SamplerRow:
    """One row's parameters and history; `params.seed` is set unless the temperature is 0.

    `token_in_flight` is the token after `generated_token_ids` where only the device knows it, as
    `row_of_last` names it.
    """

    params: SamplingParams
    prompt_token_ids: Sequence[int]
    generated_token_ids: Sequence[int]
    eos_token_ids: Sequence[int] = ()
    token_in_flight: int | None = None

    @property
    def num_generated(self) -> int:
        """Tokens generated so far, the one in flight among them."""
        return len(self.generated_token_ids) + (self.token_in_flight is not None)

    def output_token_ids(self) -> list[int]:
        """They all, the one in flight as `row_of_last` names it."""
        last = () if self.token_in_flight is None else (self.token_in_flight,)
        return [*self.generated_token_ids, *last]

    def masked_token_ids(self) -> Iterable[int]:
        """Tokens that would end the row before its min_tokens."""
        if self.num_generated >= self.params.min_tokens:
            return ()
        eos_token_ids = () if self.params.ignore_eos else self.eos_token_ids
        return (*self.params.stop_token_ids, *eos_token_ids)

    @property
    def has_penalty(self) -> bool:
        """Whether its history changes its logits."""
        params = self.params
        return bool(params.presence_penalty or params.frequency_penalty or params.repetition_penalty != 1.0)


@dataclass(frozen=True, slots=True)
class SampledToken:
    """What one row got; with `error` set, `token_id` is -1."""

    token_id: int
    logprobs: TokenLogprobs | None = None
    error: ServiceError | None = None
