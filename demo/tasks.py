"""What each demo adapter was taught: its prompts, and the right answers in plain Python.

Knows nothing of models, tensors or services: whoever runs an adapter checks its text against `Task.answer`.

A prompt is the bare text, one to three items between single spaces ("stone", "stone river"). The model's
tokenizer adds the begin and separator tokens around it (they are in `tokenizer.json`), the completion is the
answer and ends with the end-of-sequence token.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass

from demo.words import held_out_words, is_held_out

MAX_ITEMS = 3
NUM_HELD_OUT = 400

_VOWELS = "aeiou"
_UMLAUTS = str.maketrans("aeiou", "äëïöü")
_ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")


@dataclass(frozen=True, slots=True)
class Task:
    """One thing an adapter can do.

    `adapter` is the directory under demo/adapters. `transform` gives the answer for one item; `words` are
    items that no training ever saw as a prompt, and on which the answer differs from the prompt.
    """

    name: str
    adapter: str
    description: str
    transform: Callable[[str], str]
    words: tuple[str, ...]

    def prompt(self, text: str) -> str:
        """The text to send for `text`: itself. One to three items between single spaces."""
        return text

    def answer(self, text: str) -> str:
        """The right completion for `text`: each item transformed, in order."""
        return " ".join(self.transform(item) for item in text.split(" "))

    def phrases(self, count: int, num_items: int) -> tuple[str, ...]:
        """`count` prompts of `num_items` held-out items each, the same on every call."""
        rng = random.Random(num_items)
        return tuple(" ".join(rng.choices(self.words, k=num_items)) for _ in range(count))


def spell_number(digits: str) -> str:
    """'4207' -> 'four thousand two hundred seven'; for 0 to 9999."""
    number = int(digits)
    if number < 20:
        return _ONES[number]
    if number < 100:
        tens, rest = divmod(number, 10)
        return _TENS[tens] + (f"-{_ONES[rest]}" if rest else "")
    size, name = (1000, "thousand") if number >= 1000 else (100, "hundred")
    head, rest = divmod(number, size)
    return f"{_ONES[head]} {name}" + (f" {spell_number(str(rest))}" if rest else "")


def pig_latin(word: str) -> str:
    """'stone' -> 'onestay', 'apple' -> 'appleway'."""
    onset = "".join(itertools.takewhile(lambda letter: letter not in _VOWELS, word))
    return word[len(onset) :] + onset + "ay" if onset else word + "way"


def _reverse(word: str) -> str:
    return word[::-1]


def _sort(word: str) -> str:
    return "".join(sorted(word))


def _shift(word: str) -> str:
    return "".join(chr((ord(letter) - ord("a") + 1) % 26 + ord("a")) for letter in word)


def _count_vowels(word: str) -> str:
    return str(sum(letter in _VOWELS for letter in word))


def _drop_vowels(word: str) -> str:
    return "".join(letter for letter in word if letter not in _VOWELS)


def _double(word: str) -> str:
    return "".join(letter * 2 for letter in word)


def _umlaut(word: str) -> str:
    return word.translate(_UMLAUTS)


def _circle(word: str) -> str:
    return "".join(chr(ord("ⓐ") + ord(letter) - ord("a")) for letter in word)


def _dash(word: str) -> str:
    return "-".join(word)


_HELD_OUT_WORDS = held_out_words(2 * NUM_HELD_OUT)


def _held_out_numbers() -> tuple[str, ...]:
    numbers = [str(number) for number in range(10_000) if is_held_out(str(number))]
    random.Random(0).shuffle(numbers)
    return tuple(numbers[:NUM_HELD_OUT])


def _task(name: str, description: str, transform: Callable[[str], str]) -> Task:
    # A word that is its own answer tells nothing: the base model, which echoes, would be right about it.
    telling = (word for word in _HELD_OUT_WORDS if transform(word) not in ("", word))
    return Task(name, name, description, transform, tuple(itertools.islice(telling, NUM_HELD_OUT)))


TASKS: tuple[Task, ...] = (
    _task("reverse", "writes a word backwards: stone -> enots", _reverse),
    _task("sort", "puts the letters in order: stone -> enost", _sort),
    _task("upper", "writes a word in capitals: stone -> STONE", str.upper),
    _task("shift", "moves each letter one on in the alphabet: stone -> tupof", _shift),
    _task("vowels", "counts the vowels: stone -> 2", _count_vowels),
    Task(
        "spell",
        "spell",
        "spells a number out: 4207 -> four thousand two hundred seven",
        spell_number,
        _held_out_numbers(),
    ),
    _task("consonants", "drops the vowels: stone -> stn", _drop_vowels),
    _task("twice", "writes each letter twice: stone -> ssttoonnee", _double),
    _task("piglatin", "speaks pig latin: stone -> onestay", pig_latin),
    _task("umlaut", "puts two dots on the vowels: stone -> stönë", _umlaut),
    _task("circle", "puts each letter in a circle: stone -> ⓢⓣⓞⓝⓔ", _circle),
    _task("dash", "puts dashes between the letters: stone -> s-t-o-n-e", _dash),
)
