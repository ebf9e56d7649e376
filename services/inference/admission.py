"""From a GenerateRequest to a Request: every field checked, the adapter resolved, defaults filled in.

Must not know streams or the engine's pipe.
"""

import itertools
import secrets
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol

from protos.multilora.v1 import inference_pb2 as pb
from services.common.errors import Code, Reason, ServiceError, invalid_field
from services.common.tracing import Tracing
from services.common.traffic_split import is_sampled
from services.inference.adapter_name import check_adapter_name
from services.inference.convert import sampling_from_wire
from services.inference.prompt import prompt_token_ids
from services.inference.request import Request, ResolvedAdapter, SamplingParams
from services.inference.resolution import Resolution, StoreStats
from services.inference.served_model import ServedModel

MAX_REQUEST_ID_CHARS = 128


class AdapterResolver(Protocol):
    """Knows what adapter names mean; the store's client in life."""

    async def resolve(self, name: str, split_key: str = "") -> Resolution:
        """What `name` means now, for requests with this `split_key`. Raises ServiceError."""
        ...

    def stats(self) -> StoreStats:
        """How the service stands with its store."""
        ...


@dataclass(frozen=True, slots=True)
class Admitted:
    """A Request under an id of our own, so that callers may reuse theirs.

    `shadow` is the version that a copy of it is to run on as well, by name; empty: none.
    """

    request: Request
    callers_id: str
    shadow: str = ""


class Admission:
    """Checks requests against one model. Holds no state but a counter of ids and a thread."""

    def __init__(
        self,
        model: ServedModel,
        resolver: AdapterResolver,
        tracing: Tracing | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model = model
        self._resolver = resolver
        self._tracing = tracing or Tracing()
        self._clock = clock
        self._ids = itertools.count(1)
        # One at a time: while a text is encoded it takes more than a hundred times its size in memory.
        self._long_texts = ThreadPoolExecutor(1, "encode")

    async def resolve(self, name: str, split_key: str = "") -> Resolution:
        """What `name` means. Raises ServiceError INVALID_ARGUMENT or what the store says."""
        check_adapter_name(name)
        with self._tracing.span("resolve"):
            return await self._resolver.resolve(name, split_key)

    async def resolve_one(self, name: str) -> ResolvedAdapter:
        """The one version that `name` means. Raises INVALID_FIELD if it splits traffic over several."""
        resolution = await self.resolve(name)
        if resolution.targets:
            versions = ", ".join(str(version) for version, _ in resolution.targets)
            raise invalid_field("adapter", f"splits traffic over versions {versions}: name one of them")
        return resolution.adapter

    async def admit(
        self, message: pb.GenerateRequest, max_context_tokens: int, time_remaining_s: float | None
    ) -> Admitted:
        """Raises ServiceError naming the first field that is wrong, or what keeps the adapter away."""
        arrival_s = self._clock()
        for field in ("request_id", "split_key"):
            if len(getattr(message, field)) > MAX_REQUEST_ID_CHARS:
                raise invalid_field(field, f"at most {MAX_REQUEST_ID_CHARS} characters")
        callers_id = message.request_id or uuid.uuid4().hex
        sampling = sampling_from_wire(message.sampling)
        sampling.check(self._model.config.vocab_size, self._model.tokenizer.eos_token_ids)
        ids = await prompt_token_ids(message, self._model, max_context_tokens, self._long_texts)
        sampling = _fit(sampling, len(ids), max_context_tokens)
        split_key = message.split_key or callers_id
        resolution = await self.resolve(message.adapter, split_key) if message.adapter else None
        request = Request(
            request_id=f"r{next(self._ids)}",
            prompt_token_ids=ids,
            adapter=self._traced(resolution.adapter) if resolution else None,
            sampling=sampling,
            arrival_s=arrival_s,
            priority=message.priority,
            deadline_s=None if time_remaining_s is None else arrival_s + time_remaining_s,
            eos_token_ids=self._model.tokenizer.eos_token_ids,
        )
        return Admitted(request, callers_id, _shadow(resolution, split_key))

    def _traced(self, adapter: ResolvedAdapter) -> ResolvedAdapter:
        context = self._tracing.traced()
        return adapter if context is None else replace(adapter, traceparent=context.header)


def _shadow(resolution: Resolution | None, split_key: str) -> str:
    if resolution is None or resolution.shadow is None:
        return ""
    adapter = resolution.adapter.version_name.partition("/versions/")[0]
    is_meant = is_sampled(adapter, split_key, resolution.shadow.sample_rate)
    return resolution.shadow.version_name if is_meant else ""


def _fit(sampling: SamplingParams, num_prompt_tokens: int, max_context_tokens: int) -> SamplingParams:
    room = max_context_tokens - num_prompt_tokens
    if sampling.max_tokens > room:
        raise _over_context("max_tokens", sampling.max_tokens, num_prompt_tokens, max_context_tokens)
    if sampling.min_tokens > room:
        raise _over_context("min_tokens", sampling.min_tokens, num_prompt_tokens, max_context_tokens)
    seed = secrets.randbits(64) if sampling.seed is None else sampling.seed
    return replace(sampling, max_tokens=sampling.max_tokens or room, seed=seed)


def _over_context(
    name: str, num_tokens: int, num_prompt_tokens: int, max_context_tokens: int
) -> ServiceError:
    return ServiceError(
        Code.INVALID_ARGUMENT,
        Reason.CONTEXT_EXCEEDED,
        f"sampling.{name}: {num_tokens} after a prompt of {num_prompt_tokens} tokens exceeds the context of "
        f"{max_context_tokens}: send a shorter prompt, or at most {max_context_tokens - num_prompt_tokens}",
        field=f"sampling.{name}",
    )
