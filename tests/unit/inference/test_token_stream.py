"""TokenStream: merged deltas say the same as one, and stop strings end them."""

from hypothesis import given
from hypothesis import strategies as st

from services.inference.detokenizer import Detokenizer, TokenBytes
from services.inference.messages import TokenLogprobs
from services.inference.request import SamplingParams
from services.inference.token_stream import MAX_DELTA_TOKENS, TokenStream
from tests.small_tokenizers import byte_level

TOKENIZER = byte_level()
TOKEN_BYTES = TokenBytes(TOKENIZER)


def make(**sampling) -> TokenStream:
    return TokenStream(SamplingParams(**sampling), Detokenizer(TOKEN_BYTES, follows_text=True))


def encode(text: str) -> list[int]:
    return TOKENIZER.encode(text, add_special_tokens=False).ids


def letters(text: str) -> list[int]:
    """One token a byte, as a model might spell it."""
    return [TOKENIZER.token_to_id(letter) for letter in text]


@given(text=st.text("ab cé東🦊END", max_size=40), cuts=st.lists(st.integers(1, 5), max_size=40))
def test_however_events_and_reads_fall_the_stream_says_the_same(text, cuts):
    token_ids, stream = encode(text), make(stop=("END", "🦊"))
    got_ids, got_text, position = [], "", 0
    for cut in [*cuts, len(token_ids)]:
        stream.push(token_ids[position : position + cut])
        position += cut
        if cut % 2:
            delta = stream.take()
            got_ids += delta.token_ids
            got_text += delta.text
        if stream.matched_stop is not None:
            break
    stream.end()
    delta = stream.take()
    whole = min((text.partition(stop)[0] for stop in ("END", "🦊")), key=len)
    assert got_text + delta.text == whole
    assert [*got_ids, *delta.token_ids] == token_ids[: stream.num_tokens]
    assert (stream.matched_stop is None) == (whole == text)
    assert not stream.has_delta


def test_the_tokens_of_a_cut_stop_are_delivered_and_those_after_it_are_not():
    stream = make(stop=("lo w",))
    stream.push(letters("hellolo"))
    assert stream.take().text == "hello"
    logprobs = [TokenLogprobs(token_id, -1.0, ()) for token_id in letters("abcdef")]
    stream.push([*encode(" wor"), *letters("xyz")], logprobs)
    delta = stream.take()
    assert (delta.text, stream.matched_stop) == ("", "lo w")
    assert stream.num_tokens == 7 + len(delta.token_ids) <= 7 + len(encode(" wor"))
    assert len(delta.logprobs) == len(delta.token_ids)


def test_stops_take_effect_from_min_tokens_on():
    stream = make(stop=("a",), min_tokens=3)
    stream.push(letters("aabab"))
    assert (stream.take().text, stream.matched_stop, stream.num_tokens) == ("aab", "a", 4)


def test_a_stop_completed_by_token_min_tokens_counts():
    stream = make(stop=("ab",), min_tokens=2)
    stream.push(letters("abc"))
    assert (stream.take().text, stream.num_tokens) == ("", 2)


def test_text_held_back_comes_at_the_end():
    stream = make(stop=("abc",))
    stream.push(letters("xab"))
    assert stream.take().text == "x"
    stream.end()
    assert stream.take().text == "ab"


def test_a_delta_never_nears_the_wire_limit():
    stream = make()
    stream.push(letters("a") * (2 * MAX_DELTA_TOKENS + 1))
    sizes = []
    while stream.has_delta:
        sizes.append(len(stream.take().token_ids))
    assert sizes == [MAX_DELTA_TOKENS, MAX_DELTA_TOKENS, 1]
