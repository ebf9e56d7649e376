"""A Request and how far the engine has come with it.

Must not know torch, pages or the wire.
"""

from dataclasses import dataclass, field

from services.inference.request import AdapterKey, FinishReason, Request


@dataclass(slots=True, eq=False)
class Sequence:
    """Mutable state of one request; changed by the scheduler and the engine only.

    `num_computed` tokens have their keys and values in pages, or will have them when the steps that were
    launched end. `num_in_flight` tokens after those known are sampled by such steps: the device has them,
    the host does not yet. `order` decides who goes first: higher priority, then earlier arrival. Times are
    time.monotonic() seconds.
    """

    request: Request
    order: tuple[int, int]
    output_ids: list[int] = field(default_factory=list)
    num_computed: int = 0
    num_in_flight: int = 0
    adapter_ready_s: float | None = None
    started_s: float | None = None
    announced: bool = False

    @property
    def id(self) -> str:
        """The request's id."""
        return self.request.request_id

    @property
    def adapter_key(self) -> AdapterKey | None:
        """Key of the adapter; None for the base model."""
        return self.request.adapter.key if self.request.adapter else None

    @property
    def num_tokens(self) -> int:
        """Tokens so far, prompt and output, those in flight among them."""
        return len(self.request.prompt_token_ids) + len(self.output_ids) + self.num_in_flight

    @property
    def num_pending(self) -> int:
        """Tokens whose keys and values are still to be computed."""
        return self.num_tokens - self.num_computed

    @property
    def ends_in_flight(self) -> bool:
        """Whether what is in flight is all that max_tokens allows: no further step is wanted."""
        num_in_flight = self.num_in_flight
        return num_in_flight > 0 and len(self.output_ids) + num_in_flight >= self.request.sampling.max_tokens

    def token_ids(self, start: int, stop: int) -> list[int]:
        """Tokens start..stop-1 of prompt and output, which must be known."""
        prompt = self.request.prompt_token_ids
        if start >= len(prompt):
            return self.output_ids[start - len(prompt) : stop - len(prompt)]
        return [*prompt[start:stop], *self.output_ids[: max(0, stop - len(prompt))]]

    def accept(self, token_id: int) -> FinishReason | None:
        """Takes a sampled token; says how the request ended, if it did. A stop token is not kept."""
        sampling = self.request.sampling
        is_eos = token_id in self.request.eos_token_ids and not sampling.ignore_eos
        if is_eos or token_id in sampling.stop_token_ids:
            return FinishReason.STOP
        self.output_ids.append(token_id)
        return FinishReason.LENGTH if len(self.output_ids) >= sampling.max_tokens else None
