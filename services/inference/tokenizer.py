"""Text to token ids with the model directory's tokenizer.json, and the ids that end a sequence.

Must not know requests or streams; the way back to text is services.inference.detokenizer.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers

from services.inference.detokenizer import Detokenizer, TokenBytes
from services.inference.model_file import broken_model_file, read_model_json


class Tokenizer:
    """A loaded tokenizer.json. `eos_token_ids` are all that the model's configs name.

    Safe to use from several threads.
    """

    def __init__(self, inner: tokenizers.Tokenizer, eos_token_ids: tuple[int, ...]) -> None:
        # A tokenizer.json may carry what some training run padded and cut to; a prompt is neither.
        inner.no_padding()
        inner.no_truncation()
        self._inner = inner
        self._token_bytes = TokenBytes(inner)
        self.eos_token_ids = eos_token_ids

    @property
    def vocab_size(self) -> int:
        """Number of tokens, added ones included."""
        return int(self._inner.get_vocab_size(with_added_tokens=True))

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of `text`; special tokens around it as the tokenizer's post-processor says."""
        # A batch of one: unlike `encode`, it lets go of the interpreter lock, without which every stream
        # would stand still. The fast form keeps no offsets, which nobody asks for.
        (encoding,) = self._inner.encode_batch_fast([text], add_special_tokens=add_special_tokens)
        ids: list[int] = encoding.ids
        return ids

    def detokenizer(self, prompt_token_ids: Sequence[int]) -> Detokenizer:
        """For the output of one stream, which goes on where the prompt ended."""
        follows_text = not self._token_bytes.special_ids.issuperset(prompt_token_ids)
        return Detokenizer(self._token_bytes, follows_text=follows_text)


def load_tokenizer(model_dir: Path) -> Tokenizer:
    """The tokenizer of a model directory. Raises ServiceError naming the file that is missing or broken."""
    path = model_dir / "tokenizer.json"
    if not path.is_file():
        raise broken_model_file(
            path.name, f"is missing in {model_dir}; save the model's fast tokenizer there (save_pretrained)"
        )
    try:
        inner = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception for whatever it cannot parse
        raise broken_model_file(path.name, f"cannot be read in {model_dir}: {error}") from error
    return Tokenizer(inner, _eos_token_ids(model_dir))


def _eos_token_ids(model_dir: Path) -> tuple[int, ...]:
    for name in ("generation_config.json", "config.json"):
        value = read_model_json(model_dir, name).get("eos_token_id")
        if value is not None:
            return _as_ids(value, name)
    return ()


def _as_ids(value: Any, name: str) -> tuple[int, ...]:
    ids = value if isinstance(value, list) else [value]
    if not all(isinstance(token_id, int) and token_id >= 0 for token_id in ids):
        raise broken_model_file(name, f"eos_token_id must be a token id or a list of them, not {value!r}")
    return tuple(ids)
