"""What a Generate call is once it is checked and its adapter is resolved: immutable values.

Must not know torch, gRPC or the wire: the servicer makes these, the engine consumes them.
"""

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

from services.common.errors import invalid_field
from services.common.manifest_signature import Signature

# sha256 in hex of an adapter version's content: the key of every cache.
AdapterKey = NewType("AdapterKey", str)

MAX_STOPS = 16
MAX_STOP_CHARS = 256
MAX_STOP_TOKEN_IDS = 1024
MAX_LOGPROBS = 20
MAX_LOGIT_BIASES = 1024


class FinishReason(StrEnum):
    """Why a stream ended well; the names are the wire's."""

    STOP = "STOP"
    LENGTH = "LENGTH"
    CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True)
class AdapterFile:
    """One file of a version; `sha256` in hex."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ResolvedAdapter:
    """The one immutable version that a name meant when the request was admitted.

    `traceparent` is of the call that it was resolved for, if that is traced: fetching it belongs there.
    """

    key: AdapterKey
    version_name: str
    rank: int
    files: tuple[AdapterFile, ...]
    signature: Signature | None = None
    traceparent: str = field(default="", compare=False)

    @property
    def tenant(self) -> str:
        """Whose it is, by the name it was resolved by."""
        return self.version_name.removeprefix("tenants/").partition("/")[0]


def adapter_key(files: Iterable[AdapterFile]) -> str:
    """The key of these files: sha256 in hex over canonical JSON of their sorted [path, size, sha256]."""
    rows = sorted([file.path, file.size_bytes, file.sha256] for file in files)
    canonical = json.dumps(rows, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to choose tokens; the wire's SamplingParams with defaults filled in.

    `max_tokens` 0 means all that the context has room for; `seed` None means a random one.
    `logprobs` None means none, 0 the chosen token only.
    """

    max_tokens: int = 0
    min_tokens: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    logprobs: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()

    def check(self, vocab_size: int, eos_token_ids: tuple[int, ...] = ()) -> None:
        """Raises ServiceError INVALID_ARGUMENT naming the first field that is out of range."""
        _require(
            self.max_tokens >= 0, "sampling.max_tokens", "must be at least 1, or absent for all the room"
        )
        _require(self.min_tokens >= 0, "sampling.min_tokens", "must not be negative")
        if self.max_tokens:
            _require(self.min_tokens <= self.max_tokens, "sampling.min_tokens", "must not exceed max_tokens")
        _require_range(self.temperature, 0.0, 100.0, "sampling.temperature")
        _require_range(self.top_p, 0.0, 1.0, "sampling.top_p", open_low=True)
        _require(self.top_k >= 0, "sampling.top_k", "must not be negative; 0 keeps all")
        _require_range(self.min_p, 0.0, 1.0, "sampling.min_p")
        _require_range(self.presence_penalty, -2.0, 2.0, "sampling.presence_penalty")
        _require_range(self.frequency_penalty, -2.0, 2.0, "sampling.frequency_penalty")
        _require_range(self.repetition_penalty, 0.0, 100.0, "sampling.repetition_penalty", open_low=True)
        _require(len(self.stop) <= MAX_STOPS, "sampling.stop", f"at most {MAX_STOPS} stop strings")
        for text in self.stop:
            _require(
                0 < len(text) <= MAX_STOP_CHARS, "sampling.stop", f"1 to {MAX_STOP_CHARS} characters each"
            )
        _require(
            len(self.stop_token_ids) <= MAX_STOP_TOKEN_IDS,
            "sampling.stop_token_ids",
            f"at most {MAX_STOP_TOKEN_IDS}",
        )
        for token_id in self.stop_token_ids:
            _require(
                0 <= token_id < vocab_size, "sampling.stop_token_ids", f"{token_id} is not in the vocabulary"
            )
        ends = {*self.stop_token_ids, *(() if self.ignore_eos else eos_token_ids)}
        _require(
            not self.min_tokens or len(ends) < vocab_size,
            "sampling.stop_token_ids",
            "they end the stream at every token, and min_tokens allows no end: leave one of them out",
        )
        if self.logprobs is not None:
            _require(0 <= self.logprobs <= MAX_LOGPROBS, "sampling.logprobs", f"0 to {MAX_LOGPROBS}")
        _require(
            len(self.logit_bias) <= MAX_LOGIT_BIASES, "sampling.logit_bias", f"at most {MAX_LOGIT_BIASES}"
        )
        for token_id, bias in self.logit_bias:
            _require(
                0 <= token_id < vocab_size, "sampling.logit_bias", f"{token_id} is not in the vocabulary"
            )
            _require_range(bias, -100.0, 100.0, "sampling.logit_bias")


def _require(legal: bool, name: str, message: str) -> None:
    if not legal:
        raise invalid_field(name, message)


def _require_range(value: float, low: float, high: float, name: str, *, open_low: bool = False) -> None:
    bracket = "(" if open_low else "["
    legal = math.isfinite(value) and low <= value <= high and not (open_low and value == low)
    _require(legal, name, f"must be in {bracket}{low:g}, {high:g}], not {value:g}")


@dataclass(frozen=True, slots=True)
class Request:
    """One Generate call as the engine sees it.

    `sampling.max_tokens` and `sampling.seed` are set by then. Times are time.monotonic() seconds,
    which on Linux mean the same in the front end and in the engine process.
    """

    request_id: str
    prompt_token_ids: tuple[int, ...]
    adapter: ResolvedAdapter | None
    sampling: SamplingParams
    arrival_s: float
    priority: int = 0
    deadline_s: float | None = None
    eos_token_ids: tuple[int, ...] = field(default=())
