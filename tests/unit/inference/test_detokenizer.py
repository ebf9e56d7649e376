"""Detokenizer against decoding everything at once."""

import re

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models

from services.common.errors import ServiceError
from services.inference.detokenizer import Detokenizer, TokenBytes
from tests.small_tokenizers import byte_fallback, byte_level, metaspace, word_pieces, words

FAMILIES = {
    family.__name__: (family(), TokenBytes(family()))
    for family in (byte_level, metaspace, byte_fallback, words, word_pieces)
}
OPEN_CHARACTER = "\N{REPLACEMENT CHARACTER}"
# The first bytes of a character (Unicode, table 3-7), which all at once are one sign. Python's decoder also
# waits for the third byte of a surrogate, though no character begins so: ED, A0 to BF, all at once two signs.
_OPEN_END = re.compile(
    rb"(?:[\xc2-\xdf]|\xe0[\xa0-\xbf]?|[\xe1-\xef][\x80-\xbf]?"
    rb"|\xf0(?:[\x90-\xbf][\x80-\xbf]?)?|[\xf1-\xf3][\x80-\xbf]{0,2}|\xf4(?:[\x80-\x8f][\x80-\xbf]?)?)\Z"
)


def stream(token_bytes: TokenBytes, token_ids: list[int], *, follows_text: bool = False) -> str:
    detokenizer = Detokenizer(token_bytes, follows_text=follows_text)
    return "".join(detokenizer.push(token_id) for token_id in token_ids)


@pytest.mark.parametrize("family", FAMILIES)
@given(data=st.data())
def test_tokens_one_by_one_say_what_all_at_once_say(family, data):
    tokenizer, token_bytes = FAMILIES[family]
    text = data.draw(st.text(alphabet="ab cé東🦊hello world", max_size=30))
    token_ids = tokenizer.encode(text).ids
    assert stream(token_bytes, token_ids) == tokenizer.decode(token_ids)


@given(token_ids=st.lists(st.integers(0, 335), max_size=60))
def test_any_byte_level_tokens_say_what_all_at_once_say(token_ids):
    tokenizer, token_bytes = FAMILIES["byte_level"]
    data = b"".join(map(token_bytes.inside, token_ids))
    shown, held = _split_open_end(data)
    text = stream(token_bytes, token_ids)
    assert text == shown.decode(errors="replace")
    assert tokenizer.decode(token_ids) == text + held.decode(errors="replace")


@pytest.mark.parametrize(
    ("data", "shown", "held"),
    [
        (b"a", "a", ""),
        (b"a\xe2\x98", "a", OPEN_CHARACTER),
        (b"a\xf0\x9f\xa6", "a", OPEN_CHARACTER),
        (b"a\xe0\x80", "a" + 2 * OPEN_CHARACTER, ""),
        (b"a\xed\xa0", "a", 2 * OPEN_CHARACTER),
        (b"a\xed\xa0\x80", "a" + 3 * OPEN_CHARACTER, ""),
    ],
)
def test_what_is_held_back_is_one_sign_or_half_a_surrogate_s_two(data, shown, held):
    tokenizer, token_bytes = FAMILIES["byte_level"]
    token_of = {token_bytes.inside(token_id): token_id for token_id in range(tokenizer.get_vocab_size())}
    token_ids = [token_of[bytes([byte])] for byte in data]
    assert stream(token_bytes, token_ids) == shown
    assert tokenizer.decode(token_ids) == shown + held


def _split_open_end(data: bytes) -> tuple[bytes, bytes]:
    """`data` up to where a character has begun that the next bytes may complete, and from there on."""
    begun = _OPEN_END.search(data)
    return (data, b"") if begun is None else (data[: begun.start()], data[begun.start() :])


@pytest.mark.parametrize("family", ["metaspace", "words", "word_pieces"])
@given(data=st.data())
def test_any_tokens_without_bytes_say_what_all_at_once_say(family, data):
    tokenizer, token_bytes = FAMILIES[family]
    ids = st.integers(0, tokenizer.get_vocab_size() - 1)
    token_ids = data.draw(st.lists(ids, max_size=30))
    assert stream(token_bytes, token_ids) == tokenizer.decode(token_ids)


@pytest.mark.parametrize("family", ["metaspace", "byte_fallback", "byte_level"])
def test_output_goes_on_where_the_prompt_ended(family):
    tokenizer, token_bytes = FAMILIES[family]
    prompt = tokenizer.encode("a c").ids
    output = tokenizer.encode("ab", add_special_tokens=False).ids
    continued = stream(token_bytes, output, follows_text=True)
    assert tokenizer.decode(prompt) + continued == tokenizer.decode(prompt + output)


@pytest.mark.parametrize("family", ["byte_level", "byte_fallback"])
def test_a_character_split_over_tokens_appears_once_it_is_whole(family):
    tokenizer, token_bytes = FAMILIES[family]
    token_ids = tokenizer.encode("☃", add_special_tokens=False).ids
    token_ids = token_ids[-3:]
    detokenizer = Detokenizer(token_bytes, follows_text=True)
    assert [detokenizer.push(token_id) for token_id in token_ids] == ["", "", "☃"]


def test_a_character_left_open_is_not_shown():
    tokenizer, token_bytes = FAMILIES["byte_level"]
    token_ids = tokenizer.encode("a☃", add_special_tokens=False).ids
    assert stream(token_bytes, token_ids[:-1]) == "a"


def test_invalid_bytes_do_not_swallow_what_follows():
    tokenizer, token_bytes = FAMILIES["byte_fallback"]
    token_ids = [3 + 0xE2, 3 + 0x82, 3 + 0xAC, 3 + 0xFF, tokenizer.token_to_id("▁a")]
    assert stream(token_bytes, token_ids, follows_text=True) == f"€{OPEN_CHARACTER} a"


def test_special_and_unknown_tokens_are_silent_and_do_not_count_as_the_first():
    tokenizer, token_bytes = FAMILIES["metaspace"]
    hello = tokenizer.encode("hello world", add_special_tokens=False).ids
    eos = tokenizer.token_to_id("</s>")
    assert stream(token_bytes, [eos, 99_999, *hello[:1], eos, *hello[1:]]) == "hello world"


def test_a_decoder_that_needs_its_neighbours_is_refused():
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.decoder = decoders.Sequence([decoders.BPEDecoder(), decoders.Fuse()])
    with pytest.raises(ServiceError, match="BPEDecoder is not served"):
        TokenBytes(tokenizer)
