"""Words for training and measuring: which exist, and which no training may ever see.

Knows nothing of tasks or tensors. The split between training and held-out words is the same on every machine.
"""

from __future__ import annotations

import hashlib
import random
import string
from collections.abc import Iterator
from pathlib import Path

MIN_LETTERS = 3
MAX_LETTERS = 8

# One word in eight is held out.
_HELD_OUT_ONE_IN = 8

_ONSETS = (
    *"bcdfghjklmnpqrstvwxyz",
    *("bl", "br", "ch", "cl", "cr", "dr", "fl", "fr", "gl", "gr", "pl", "pr", "sh", "sk", "sl", "sm"),
    *("sn", "sp", "st", "str", "sw", "th", "tr", "tw", "wh"),
)
_VOWELS = (*"aeiou", "ai", "ea", "ee", "ie", "oa", "oo", "ou")
_CODAS = (
    *("", "", "", "b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "x", "z"),
    *("ck", "ft", "ld", "ll", "lk", "mp", "nd", "ng", "nk", "nt"),
    *("rd", "rk", "rm", "rn", "rt", "sh", "ss", "st", "th"),
)

ENGLISH = tuple((Path(__file__).parent / "english.txt").read_text().split())


def is_held_out(word: str) -> bool:
    """Whether `word` belongs to the words no training ever gets as a prompt."""
    return hashlib.sha256(word.encode()).digest()[0] % _HELD_OUT_ONE_IN == 0


def training_words(seed: int) -> Iterator[str]:
    """Endless words to train on: half made of syllables, a quarter English, a quarter random letters."""
    rng = random.Random(seed)
    while True:
        kind = rng.random()
        if kind < 0.5:
            word = _syllable_word(rng)
        elif kind < 0.75:
            word = rng.choice(ENGLISH)
        else:
            word = _random_word(rng)
        if MIN_LETTERS <= len(word) <= MAX_LETTERS and not is_held_out(word):
            yield word


def held_out_words(count: int) -> tuple[str, ...]:
    """The first `count` held-out words without repeats: the English ones, then words made of syllables."""
    rng = random.Random(0)
    english = [word for word in ENGLISH if is_held_out(word)]
    rng.shuffle(english)
    words = dict.fromkeys(english)
    while len(words) < count:
        word = _syllable_word(rng)
        if MIN_LETTERS <= len(word) <= MAX_LETTERS and is_held_out(word):
            words[word] = None
    return tuple(words)[:count]


def _syllable_word(rng: random.Random) -> str:
    word = "" if rng.random() < 0.9 else rng.choice(_VOWELS)
    for _ in range(rng.choice((1, 2, 2, 3))):
        word += rng.choice(_ONSETS) + rng.choice(_VOWELS)
        if rng.random() < 0.4:
            word += rng.choice(_CODAS)
    return word


def _random_word(rng: random.Random) -> str:
    num_letters = rng.randint(MIN_LETTERS, MAX_LETTERS)
    # A small alphabet a word makes repeated letters common: they are the hard case of most tasks.
    alphabet = rng.sample(string.ascii_lowercase, rng.randint(3, 26))
    return "".join(rng.choices(alphabet, k=num_letters))
