"""Small tokenizers of the families that models come with, made here with the tokenizers library."""

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = ["hello world of small models", "größe 東京 café — naïve", "the quick brown fox 🦊 jumps"] * 4
BOS, EOS = "<s>", "</s>"


def byte_level() -> tokenizers.Tokenizer:
    """Llama 3's and Qwen's kind: bytes as letters, characters split over tokens."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=[BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_tokens([AddedToken("héllo€", special=False)])
    return _with_bos(tokenizer)


def metaspace() -> tokenizers.Tokenizer:
    """Sentencepiece's kind without byte tokens: words begin with a space that the first one loses."""
    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    _train(tokenizer, ["<unk>", BOS, EOS])
    return _with_bos(tokenizer)


def byte_fallback() -> tokenizers.Tokenizer:
    """Llama 2's kind: sentencepiece words, and a token a byte for what has no word."""
    vocab = {"<unk>": 0, BOS: 1, EOS: 2} | {f"<0x{byte:02X}>": 3 + byte for byte in range(256)}
    pieces = ["▁", "▁▁", "a", "b", "▁a", "▁ab", "é", "c", "▁c"]
    vocab |= {piece: len(vocab) + index for index, piece in enumerate(pieces)}
    merges = [("▁", "▁"), ("▁", "a"), ("▁a", "b"), ("▁", "c")]
    tokenizer = tokenizers.Tokenizer(
        models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([BOS, EOS, "<unk>"])
    return _with_bos(tokenizer)


def words() -> tokenizers.Tokenizer:
    """No decoder at all: the library puts spaces between tokens."""
    tokenizer = tokenizers.Tokenizer(
        models.WordLevel({"hello": 0, "world": 1, "<unk>": 2}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def word_pieces() -> tokenizers.Tokenizer:
    """BERT's kind: continuations are marked, spaces are not."""
    tokenizer = tokenizers.Tokenizer(models.WordPiece({"[UNK]": 0, "play": 1, "##ing": 2, "##s": 3, "we": 4}))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _train(tokenizer: tokenizers.Tokenizer, special_tokens: list[str]) -> None:
    trainer = trainers.BpeTrainer(vocab_size=120, special_tokens=special_tokens, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)


def _with_bos(tokenizer: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    bos_id = tokenizer.token_to_id(BOS)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, bos_id)]
    )
    return tokenizer
