"""Detokenizer against decoding everything at once."""

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
    whole = tokenizer.decode(token_ids)
    text = stream(token_bytes, token_ids)
    # What is left open at the end is never shown: at most three bytes, each of which may be shown as one.
    assert whole in {text + OPEN_CHARACTER * count for count in range(4)}


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
