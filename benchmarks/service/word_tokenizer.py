"""A tokenizer.json that has a word for every id: random weights have no tokenizer of their own."""

from pathlib import Path

import tokenizers
from tokenizers import models, pre_tokenizers


def write_word_tokenizer(model_dir: Path, vocab_size: int) -> None:
    """Token i is the word w<i>; the library puts spaces between them."""
    vocab = {f"w{index}": index for index in range(vocab_size)}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(vocab, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(model_dir / "tokenizer.json"))
