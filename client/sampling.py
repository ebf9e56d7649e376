"""What a caller asks of Generate: how to choose tokens, and the messages of a chat."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from protos.multilora.v1 import inference_pb2 as pb


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How tokens are chosen. None leaves a value to the server; `inference.proto` says what each does."""

    max_tokens: int | None = None
    min_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    logprobs: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)

    def to_proto(self) -> pb.SamplingParams:
        """The message that Generate takes. Raises ValueError where a number does not fit its field."""
        return pb.SamplingParams(**{name: getattr(self, name) for name in self.__slots__})


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One turn: `role` is `system`, `user`, `assistant` or what the chat template knows."""

    role: str
    content: str


def prompt_fields(
    text: str | None,
    token_ids: "tuple[int, ...] | list[int] | None",
    messages: "tuple[ChatMessage, ...] | list[ChatMessage] | None",
) -> dict[str, object]:
    """The prompt of a GenerateRequest, as its keyword. Raises ValueError unless exactly one is given."""
    given = [
        name
        for name, value in (("text", text), ("token_ids", token_ids), ("messages", messages))
        if value is not None
    ]
    if len(given) != 1:
        raise ValueError(f"give exactly one of text, token_ids and messages, not {given or 'none'}")
    if token_ids is not None:
        return {"token_ids": pb.TokenIds(ids=token_ids)}
    if messages is not None:
        turns = [pb.ChatMessage(role=each.role, content=each.content) for each in messages]
        return {"chat": pb.Chat(messages=turns)}
    return {"text": text}
