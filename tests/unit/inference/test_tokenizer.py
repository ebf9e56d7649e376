"""Tokenizer: what a model directory says about tokens."""

import json
import threading
import time

import pytest

from services.common.errors import ServiceError
from services.inference.tokenizer import load_tokenizer
from tests.small_tokenizers import BOS, byte_level, metaspace


@pytest.fixture
def model_dir(tmp_path):
    byte_level().save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def test_special_tokens_are_added_for_text_and_not_for_rendered_chats(model_dir):
    tokenizer, bos_id = load_tokenizer(model_dir), byte_level().token_to_id(BOS)
    plain = tokenizer.encode("hello", add_special_tokens=False)
    assert tokenizer.encode("hello") == [bos_id, *plain]
    assert tokenizer.encode(f"{BOS}hello", add_special_tokens=False) == [bos_id, *plain]
    assert tokenizer.vocab_size == byte_level().get_vocab_size()


def test_others_run_while_a_long_text_is_encoded(model_dir):
    """Else one long prompt would hold up every stream of the server, even from another thread."""
    tokenizer, text, took_s = load_tokenizer(model_dir), "a b " * 250_000, []

    def encode():
        begun_s = time.perf_counter()
        tokenizer.encode(text)
        took_s.append(time.perf_counter() - begun_s)

    last_s = time.perf_counter()
    thread, longest_gap_s = threading.Thread(target=encode), 0.0
    thread.start()
    while thread.is_alive():
        now_s = time.perf_counter()
        longest_gap_s, last_s = max(longest_gap_s, now_s - last_s), now_s
    assert longest_gap_s < took_s[0] / 2


def test_padding_and_truncation_left_in_the_file_are_ignored(tmp_path):
    saved = byte_level()
    saved.enable_truncation(4)
    saved.enable_padding(length=64)
    saved.save(str(tmp_path / "tokenizer.json"))
    assert load_tokenizer(tmp_path).encode("hello " * 10) == byte_level().encode("hello " * 10).ids


def test_output_after_a_bare_bos_starts_a_text(tmp_path):
    metaspace().save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(tmp_path)
    bos_id = metaspace().token_to_id(BOS)
    hello = tokenizer.encode("hello", add_special_tokens=False)

    def text_after(prompt):
        detokenizer = tokenizer.detokenizer(prompt)
        return "".join(detokenizer.push(token_id) for token_id in hello)

    assert text_after([bos_id]) == "hello"
    assert text_after([bos_id, *hello]) == " hello"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"generation_config.json": {"eos_token_id": [5, 7]}, "config.json": {"eos_token_id": 1}}, (5, 7)),
        ({"generation_config.json": {"eos_token_id": 5}}, (5,)),
        ({"generation_config.json": {}, "config.json": {"eos_token_id": 0}}, (0,)),
        ({"config.json": {"eos_token_id": None}}, ()),
        ({}, ()),
    ],
)
def test_all_ends_of_sequence_are_known(model_dir, files, expected):
    for name, content in files.items():
        (model_dir / name).write_text(json.dumps(content))
    assert load_tokenizer(model_dir).eos_token_ids == expected


@pytest.mark.parametrize("eos", ["</s>", [1, "2"], -1, 1.5])
def test_an_end_of_sequence_that_is_no_id_is_refused(model_dir, eos):
    (model_dir / "generation_config.json").write_text(json.dumps({"eos_token_id": eos}))
    with pytest.raises(ServiceError, match=r"generation_config.json: eos_token_id"):
        load_tokenizer(model_dir)


def test_a_missing_tokenizer_says_what_to_do(tmp_path):
    with pytest.raises(ServiceError, match=r"tokenizer\.json: is missing.*save_pretrained"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("content", ["", "{}", '{"model": 1}', "\x00"])
def test_a_broken_tokenizer_is_named(tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ServiceError, match=r"tokenizer\.json: cannot be read"):
        load_tokenizer(tmp_path)
