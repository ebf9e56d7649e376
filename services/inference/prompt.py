"""A Generate call's prompt as token ids, however it was given.

Must not know sampling, adapters or the engine.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor

from protos.multilora.v1 import inference_pb2 as pb
from services.common.errors import Code, Reason, ServiceError, invalid_field
from services.inference.served_model import ServedModel

# Encoding more than this would hold up every other stream; the library lets go of the interpreter lock.
INLINE_CHARS = 4096


async def prompt_token_ids(
    message: pb.GenerateRequest, model: ServedModel, max_context_tokens: int, long_texts: Executor
) -> tuple[int, ...]:
    """Token ids of the prompt. Raises ServiceError naming `prompt` or its form.

    The prompt leaves room for at least one new token. Texts that take long are encoded in `long_texts`.
    """
    match message.WhichOneof("prompt"):
        case "text":
            field, ids = "prompt.text", await _encode_text(message.text, model, long_texts)
        case "token_ids":
            field, ids = "prompt.token_ids", list(message.token_ids.ids)
        case "chat":
            field, ids = "prompt.chat", await _encode_chat(message.chat, model, long_texts)
        case _:
            raise invalid_field("prompt", "is missing: give text, token_ids or chat")
    _check(ids, field, model.config.vocab_size, max_context_tokens)
    return tuple(ids)


async def _encode_text(text: str, model: ServedModel, long_texts: Executor) -> list[int]:
    if not text:
        # Though a tokenizer that begins every text with a token would make a prompt of it.
        raise invalid_field("prompt.text", "must not be empty")
    if len(text) <= INLINE_CHARS:
        return model.tokenizer.encode(text)
    return await asyncio.get_running_loop().run_in_executor(long_texts, model.tokenizer.encode, text)


async def _encode_chat(chat: pb.Chat, model: ServedModel, long_texts: Executor) -> list[int]:
    if not chat.messages:
        raise invalid_field("prompt.chat", "has no messages")
    messages = [{"role": message.role, "content": message.content} for message in chat.messages]

    def encode() -> list[int]:
        rendered = model.chat_template.render(messages)
        return model.tokenizer.encode(rendered, add_special_tokens=False)

    if sum(len(message["content"]) for message in messages) <= INLINE_CHARS:
        return encode()
    return await asyncio.get_running_loop().run_in_executor(long_texts, encode)


def _check(ids: Sequence[int], field: str, vocab_size: int, max_context_tokens: int) -> None:
    if not ids:
        raise invalid_field(field, "must not be empty")
    if len(ids) >= max_context_tokens:
        raise ServiceError(
            Code.INVALID_ARGUMENT,
            Reason.CONTEXT_EXCEEDED,
            f"{field}: has {len(ids)} tokens, which leaves no room in the context of {max_context_tokens}: "
            "send a shorter prompt",
            field=field,
        )
    if min(ids) < 0 or max(ids) >= vocab_size:
        wrong = next(token_id for token_id in ids if not 0 <= token_id < vocab_size)
        raise invalid_field(field, f"{wrong} is not in the vocabulary of {vocab_size} tokens")
