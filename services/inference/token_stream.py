"""What a stream still owes its reader: tokens become text, stop strings end it, deltas merge.

Pure state: no clock, no asyncio. Must not know the wire or the engine's pipe.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from services.inference.detokenizer import Detokenizer
from services.inference.messages import TokenLogprobs
from services.inference.request import SamplingParams
from services.inference.stop_matcher import StopMatcher

# A reader that was away gets bigger deltas, but none near the wire's limit on one message.
MAX_DELTA_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Delta:
    """New tokens of a stream and the text that became whole; `logprobs` one per token if asked for."""

    token_ids: tuple[int, ...]
    text: str
    logprobs: tuple[TokenLogprobs, ...]


class TokenStream:
    """Tokens in, merged deltas out. Holds at most `max_tokens` tokens and their text.

    `num_tokens` counts all tokens taken, those of a stop string that was cut included.
    """

    def __init__(self, sampling: SamplingParams, detokenizer: Detokenizer) -> None:
        self._min_tokens = sampling.min_tokens
        self._detokenizer = detokenizer
        self._stops = StopMatcher(sampling.stop)
        self._token_ids: list[int] = []
        self._logprobs: list[TokenLogprobs] = []
        self._text: list[str] = []
        self.num_tokens = 0
        self.matched_stop: str | None = None

    @property
    def has_delta(self) -> bool:
        """Whether `take` has something to give."""
        return bool(self._token_ids or self._text)

    def push(self, token_ids: Sequence[int], logprobs: Sequence[TokenLogprobs] = ()) -> None:
        """Takes new tokens up to the one that completes a stop string; `matched_stop` tells which."""
        for index, token_id in enumerate(token_ids):
            self.num_tokens += 1
            self._token_ids.append(token_id)
            self._logprobs += logprobs[index : index + 1]
            text, self.matched_stop = self._stops.push(
                self._detokenizer.push(token_id), may_stop=self.num_tokens >= self._min_tokens
            )
            self._add_text(text)
            if self.matched_stop is not None:
                return

    def end(self) -> None:
        """No more tokens come: text held back as the possible start of a stop string is delivered."""
        self._add_text(self._stops.flush())

    def take(self) -> Delta:
        """All that is pending, merged; at most MAX_DELTA_TOKENS tokens of it."""
        delta = Delta(
            tuple(self._token_ids[:MAX_DELTA_TOKENS]),
            "".join(self._text),
            tuple(self._logprobs[:MAX_DELTA_TOKENS]),
        )
        del self._token_ids[:MAX_DELTA_TOKENS]
        del self._logprobs[:MAX_DELTA_TOKENS]
        self._text.clear()
        return delta

    def _add_text(self, text: str) -> None:
        if text:
            self._text.append(text)
