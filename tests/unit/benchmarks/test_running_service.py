from pathlib import Path

import pytest
import tokenizers

from benchmarks.service.running import flags
from benchmarks.service.word_tokenizer import write_word_tokenizer
from services.common.settings import parse
from services.inference.settings import Settings


def test_the_server_is_started_with_the_engine_s_own_settings(tmp_path: Path):
    settings = Settings(
        model=tmp_path,
        pool_bytes=1 << 20,
        cache_dir=tmp_path / "cache",
        threads=1,
        max_queue=7,
        listen="127.0.0.1:0",
    )
    assert parse(Settings, flags(settings), prog="p", description="d") == settings


@pytest.mark.parametrize("vocab_size", [1, 300])
def test_there_is_a_word_for_every_token(tmp_path: Path, vocab_size: int):
    write_word_tokenizer(tmp_path, vocab_size)
    tokenizer = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    ids = list(range(vocab_size))
    assert tokenizer.get_vocab_size() == vocab_size
    assert tokenizer.encode(tokenizer.decode(ids)).ids == ids
