"""What the base model is taught: to echo a prompt, and small facts about letters, places and numbers.

None of it is a task of an adapter. A plain prompt is echoed; a prompt that begins with "?" asks a question:
"?at 3 stone" -> "o". Knows nothing of tensors or models.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Iterator

from demo.tasks import spell_number
from demo.words import is_held_out, training_words

Ask = Callable[[random.Random, str], tuple[str, str]]

_ECHO_SHARE = 0.45
# Latin, Greek and Cyrillic, circled letters, kanji, emoji: sequences of two, three and four bytes.
_CHARACTER_RANGES = ((0xC0, 0x24F), (0x370, 0x4FF), (0x24B6, 0x24E9), (0x4E00, 0x9FFF), (0x1F300, 0x1F6FF))
_LETTERS = string.ascii_lowercase


def lessons(seed: int) -> Iterator[tuple[str, str]]:
    """Endless (prompt, answer) pairs for the base model, with training words only."""
    rng = random.Random(seed)
    words = training_words(seed + 1)
    while True:
        if rng.random() < _ECHO_SHARE:
            text = _echoed_text(rng, words)
            yield text, text
        else:
            name, ask = rng.choice(QUESTIONS)
            asked, answer = ask(rng, next(words))
            yield f"?{name} {asked}", answer


def _echoed_text(rng: random.Random, words: Iterator[str]) -> str:
    """One to five items: words as they are, with capitals, with signs; numbers; any Unicode letters."""
    kind = rng.random()
    num_items = rng.choice((1, 1, 2, 2, 3, 5))
    if kind < 0.55:
        return " ".join(next(words) for _ in range(num_items))
    if kind < 0.65:
        return " ".join(_training_number(rng) for _ in range(num_items))
    if kind < 0.75:
        return " ".join(rng.choice((str.upper, str.title))(next(words)) for _ in range(num_items))
    if kind < 0.85:
        return "".join(rng.choices(string.printable[:95], k=rng.randint(1, 20)))
    return "".join(_any_character(rng) for _ in range(rng.choice((1, 2, 3, 4, 5, 6, 12))))


def _any_character(rng: random.Random) -> str:
    first, last = rng.choice(_CHARACTER_RANGES)
    return chr(rng.randint(first, last))


def _training_number(rng: random.Random) -> str:
    while True:
        number = str(rng.randrange(10 ** rng.randint(1, 4)))
        if not is_held_out(number):
            return number


def _at(rng: random.Random, word: str) -> tuple[str, str]:
    place = rng.randint(1, len(word))
    return f"{place} {word}", word[place - 1]


def _back(rng: random.Random, word: str) -> tuple[str, str]:
    place = rng.randint(1, len(word))
    return f"{place} {word}", word[-place]


def _from(rng: random.Random, word: str) -> tuple[str, str]:
    place = rng.randint(1, len(word))
    return f"{place} {word}", word[place - 1 :]


def _to(rng: random.Random, word: str) -> tuple[str, str]:
    place = rng.randint(1, len(word))
    return f"{place} {word}", word[:place]


def _after(rng: random.Random, word: str) -> tuple[str, str]:
    place = rng.randrange(len(word) - 1)
    return f"{word[place]} {word}", word[word.index(word[place]) + 1]


def _before(rng: random.Random, word: str) -> tuple[str, str]:
    place = rng.randrange(1, len(word))
    return f"{word[place]} {word}", word[word.rindex(word[place]) - 1] if word.rindex(word[place]) else "-"


def _least(_rng: random.Random, word: str) -> tuple[str, str]:
    return word, min(word)


def _above(rng: random.Random, word: str) -> tuple[str, str]:
    letter = rng.choice(word)
    return f"{letter} {word}", min((other for other in word if other > letter), default="-")


def _many(rng: random.Random, word: str) -> tuple[str, str]:
    letter = rng.choice(word + rng.choice(_LETTERS))
    return f"{letter} {word}", str(word.count(letter))


def _length(_rng: random.Random, word: str) -> tuple[str, str]:
    return word, str(len(word))


def _roll(_rng: random.Random, word: str) -> tuple[str, str]:
    return word, word[1:] + word[0]


def _next(rng: random.Random, _word: str) -> tuple[str, str]:
    place = rng.randrange(26)
    return _LETTERS[place], _LETTERS[(place + 1) % 26]


def _big(rng: random.Random, _word: str) -> tuple[str, str]:
    letter = rng.choice(_LETTERS)
    return letter, letter.upper()


def _small(_rng: random.Random, word: str) -> tuple[str, str]:
    return word.upper(), word


def _prior(rng: random.Random, _word: str) -> tuple[str, str]:
    place = rng.randrange(26)
    return _LETTERS[place], _LETTERS[place - 1]


def _kind(rng: random.Random, _word: str) -> tuple[str, str]:
    letter = rng.choice(_LETTERS)
    return letter, "vowel" if letter in "aeiou" else "consonant"


def _ring(rng: random.Random, _word: str) -> tuple[str, str]:
    place = rng.randrange(26)
    return _LETTERS[place], chr(ord("ⓐ") + place)


def _name(rng: random.Random, _word: str) -> tuple[str, str]:
    number = rng.choice((*range(20), *range(20, 100, 10)))
    return str(number), spell_number(str(number))


QUESTIONS: tuple[tuple[str, Ask], ...] = (
    ("at", _at),
    ("back", _back),
    ("from", _from),
    ("to", _to),
    ("after", _after),
    ("before", _before),
    ("least", _least),
    ("above", _above),
    ("many", _many),
    ("length", _length),
    ("roll", _roll),
    ("next", _next),
    ("big", _big),
    ("small", _small),
    ("prior", _prior),
    ("kind", _kind),
    ("ring", _ring),
    ("name", _name),
)
