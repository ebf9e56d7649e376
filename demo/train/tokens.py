"""The demo's tokenizer: four special tokens, then one token a byte, no merges.

Knows nothing of models or tasks. `encode` does in plain Python what the tokenizer file does.
"""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

PAD, BOS, SEP, EOS = "<|pad|>", "<|bos|>", "<|sep|>", "<|eos|>"
SPECIALS = (PAD, BOS, SEP, EOS)
PAD_ID, BOS_ID, SEP_ID, EOS_ID = range(len(SPECIALS))
FIRST_BYTE_ID = len(SPECIALS)
VOCAB_SIZE = FIRST_BYTE_ID + 256
CONTEXT = 512

# The model knows no conversation: the last message is the prompt, whatever came before.
CHAT_TEMPLATE = "{{ bos_token }}{{ messages[-1]['content'] }}{% if add_generation_prompt %}<|sep|>{% endif %}"


def encode(text: str) -> list[int]:
    """The token ids of `text`, without special tokens."""
    return [FIRST_BYTE_ID + byte for byte in text.encode()]


def write_tokenizer(directory: Path) -> None:
    """Writes tokenizer.json and tokenizer_config.json into `directory`."""
    vocab = {token: index for index, token in enumerate(SPECIALS)}
    vocab |= {_byte_symbol(byte): FIRST_BYTE_ID + byte for byte in range(256)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIALS])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A {SEP}", special_tokens=[(BOS, BOS_ID), (SEP, SEP_ID)]
    )
    tokenizer.save(str(directory / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": PAD,
        "model_max_length": CONTEXT,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def _byte_symbol(byte: int) -> str:
    """The printable character that byte-level tokenizers write for `byte` (GPT-2's table)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    if byte in printable:
        return chr(byte)
    return chr(256 + [other for other in range(256) if other not in printable].index(byte))
