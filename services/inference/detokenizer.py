"""Token ids back to text, one token at a time, whole characters only.

Every token stands for fixed bytes once it is known not to be the first of a text, so a stream needs
one table lookup a token and no window of earlier ones. Must not know requests or stop strings.
"""

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any

import tokenizers

from services.inference.model_file import broken_model_file

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
# Their text of a token depends on the tokens around it.
_CONTEXTUAL_DECODERS = {"BPEDecoder", "CTC"}


class TokenBytes:
    """The UTF-8 bytes that each token adds to a text; filled as tokens are met.

    `special_ids` add nothing. Raises ServiceError when the tokenizer's decoder does not work token by token.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        kinds = set(_decoder_kinds(tokenizer))
        if refused := kinds & _CONTEXTUAL_DECODERS:
            raise broken_model_file("tokenizer.json", f"decoder {refused.pop()} is not served")
        self.special_ids = frozenset(
            token_id for token_id, token in tokenizer.get_added_tokens_decoder().items() if token.special
        )
        self._tokenizer = tokenizer
        self._is_byte_level = "ByteLevel" in kinds
        self._has_byte_tokens = "ByteFallback" in kinds
        self._inside: dict[int, bytes] = {}
        self._first: dict[int, bytes] = {}

    def inside(self, token_id: int) -> bytes:
        """What the token adds after other text; empty for special and unknown tokens."""
        found = self._inside.get(token_id)
        if found is None:
            found = self._inside[token_id] = self._compute(token_id, is_first=False)
        return found

    def first(self, token_id: int) -> bytes:
        """What the token is at the start of a text, where some tokenizers drop a space."""
        found = self._first.get(token_id)
        if found is None:
            found = self._first[token_id] = self._compute(token_id, is_first=True)
        return found

    def _compute(self, token_id: int, *, is_first: bool) -> bytes:
        token = self._tokenizer.id_to_token(token_id)
        if token is None or token_id in self.special_ids:
            return b""
        if self._is_byte_level:
            return _byte_level_bytes(token)
        alone = self._tokenizer.decode([token_id])
        if self._has_byte_tokens and (match := _BYTE_TOKEN.fullmatch(token)):
            return b"" if is_first and not alone else bytes.fromhex(match[1])
        if is_first:
            return alone.encode()
        return self._tokenizer.decode([token_id, token_id])[len(alone) :].encode()


class Detokenizer:
    """Turns the tokens of one stream into text. Holds at most the three open bytes of a character."""

    def __init__(self, token_bytes: TokenBytes, *, follows_text: bool) -> None:
        self._token_bytes = token_bytes
        self._is_inside = follows_text
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> str:
        """The characters that this token completes; a character left open at the end is never shown."""
        if self._is_inside:
            return self._decoder.decode(self._token_bytes.inside(token_id))
        if self._token_bytes.inside(token_id):
            self._is_inside = True
        return self._decoder.decode(self._token_bytes.first(token_id))


def _decoder_kinds(tokenizer: tokenizers.Tokenizer) -> Iterator[str]:
    if tokenizer.decoder is None:
        return
    pending: list[dict[str, Any]] = [json.loads(tokenizer.decoder.__getstate__())]
    while pending:
        decoder = pending.pop()
        yield decoder["type"]
        pending += decoder.get("decoders", [])


def _byte_level_table() -> dict[str, int]:
    # GPT-2's alphabet: printable Latin-1 bytes stand for themselves, the rest follow from U+0100 on.
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in printable]
    shifted = {chr(0x100 + index): byte for index, byte in enumerate(rest)}
    return {chr(byte): byte for byte in printable} | shifted


_BYTE_OF_CHAR = _byte_level_table()


def _byte_level_bytes(token: str) -> bytes:
    # An added token may hold characters outside the alphabet; it is plain text then.
    if all(char in _BYTE_OF_CHAR for char in token):
        return bytes(_BYTE_OF_CHAR[char] for char in token)
    return token.encode()
