"""The tokenizer file: one token a byte, the special tokens around a prompt, the chat template."""

import json
from pathlib import Path

import jinja2
import pytest
from tokenizers import Tokenizer

from demo.train.tokens import BOS_ID, EOS_ID, SEP_ID, SPECIALS, VOCAB_SIZE, encode, write_tokenizer

MODEL = Path(__file__).parents[3] / "demo" / "model"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(MODEL / "tokenizer.json"))


@pytest.mark.parametrize("text", ["stone", " two  words\n", "stönë", "ⓢⓣⓞⓝⓔ 🍜", "\x00\x7f\x80ÿ", ""])
def test_one_token_a_byte_between_begin_and_separator(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.encode(text).ids == [BOS_ID, *encode(text), SEP_ID]
    assert tokenizer.encode(text, add_special_tokens=False).ids == encode(text)
    assert tokenizer.decode(encode(text)) == text


def test_every_token_has_an_id_below_the_size_of_the_vocabulary(tokenizer: Tokenizer) -> None:
    assert tokenizer.get_vocab_size() == VOCAB_SIZE
    assert sorted(tokenizer.get_vocab().values()) == list(range(VOCAB_SIZE))
    assert [tokenizer.id_to_token(index) for index in range(len(SPECIALS))] == list(SPECIALS)


def test_a_chat_is_answered_as_its_last_message_alone(tokenizer: Tokenizer) -> None:
    config = json.loads((MODEL / "tokenizer_config.json").read_text())
    messages = [{"role": "user", "content": "river"}, {"role": "user", "content": "stone"}]
    template = jinja2.Environment().from_string(config["chat_template"])
    text = template.render(messages=messages, add_generation_prompt=True, bos_token=config["bos_token"])
    assert tokenizer.encode(text, add_special_tokens=False).ids == tokenizer.encode("stone").ids


def test_the_committed_tokenizer_is_what_the_script_writes(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert json.loads((tmp_path / name).read_text()) == json.loads((MODEL / name).read_text())


def test_generation_ends_at_the_end_of_sequence_token() -> None:
    assert json.loads((MODEL / "generation_config.json").read_text())["eos_token_id"] == EOS_ID
