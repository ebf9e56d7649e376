"""What a Generate stream yields: one Started, then Deltas, then one Finished."""

from dataclasses import dataclass
from enum import StrEnum

from client.wire import decode
from protos.multilora.v1 import inference_pb2 as pb


class FinishReason(StrEnum):
    """Why a stream ended."""

    FINISH_REASON_UNSPECIFIED = "FINISH_REASON_UNSPECIFIED"
    STOP = "STOP"
    LENGTH = "LENGTH"
    CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True)
class Started:
    """The stream runs, pinned to this version of the adapter (empty for the base model)."""

    request_id: str
    adapter_version: str
    adapter_key: str
    num_prompt_tokens: int
    num_cached_tokens: int


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One token that could have been chosen."""

    token_id: int
    logprob: float


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """The chosen token's log-probability, and the best ones' if they were asked for."""

    token_id: int
    logprob: float
    top: tuple[TokenLogprob, ...]


@dataclass(frozen=True, slots=True)
class Delta:
    """New tokens and new text; the text may lag behind the tokens by an open character or stop string."""

    token_ids: tuple[int, ...]
    text: str
    logprobs: tuple[TokenLogprobs, ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens in and out."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Timing:
    """Where the server spent the time, in seconds."""

    queue_s: float
    adapter_wait_s: float
    ttft_s: float
    total_s: float


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event. `matched_stop` is the stop string, or the token id in decimal, that ended a STOP."""

    reason: FinishReason
    matched_stop: str
    usage: Usage
    timing: Timing


Event = Started | Delta | Finished

_KINDS: dict[str, type[Started] | type[Delta] | type[Finished]] = {
    "started": Started,
    "delta": Delta,
    "finished": Finished,
}


def event_from_proto(response: pb.GenerateResponse) -> Event | None:
    """The event in `response`; None for one that this client is too old to know."""
    name = response.WhichOneof("event")
    return decode(_KINDS[name], getattr(response, name)) if name else None
