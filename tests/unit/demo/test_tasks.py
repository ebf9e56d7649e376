"""The right answers, and the samples the demo and its measurements use."""

import subprocess
import sys

import pytest

from demo.tasks import NUM_HELD_OUT, TASKS, Task, pig_latin, spell_number
from demo.words import is_held_out

ANSWERS = {
    "reverse": ("stone river", "enots revir"),
    "sort": ("banana", "aaabnn"),
    "upper": ("stone", "STONE"),
    "shift": ("zebra", "afcsb"),
    "vowels": ("queue sky", "4 0"),
    "spell": ("4207 40", "four thousand two hundred seven forty"),
    "consonants": ("stone", "stn"),
    "twice": ("book", "bbooookk"),
    "piglatin": ("stone apple sky", "onestay appleway skyay"),
    "umlaut": ("stone audio", "stönë äüdïö"),
    "circle": ("stone", "ⓢⓣⓞⓝⓔ"),
    "dash": ("stone", "s-t-o-n-e"),
}


def by_name(task: Task) -> str:
    return task.name


@pytest.mark.parametrize("task", TASKS, ids=by_name)
def test_answers(task: Task) -> None:
    text, answer = ANSWERS[task.name]
    assert task.answer(text) == answer


@pytest.mark.parametrize("task", TASKS, ids=by_name)
def test_samples_were_never_trained_on_and_an_echo_is_never_right(task: Task) -> None:
    assert len(set(task.words)) == NUM_HELD_OUT
    for word in task.words:
        assert is_held_out(word)
        assert task.answer(word) not in ("", task.prompt(word))


def test_phrases_are_the_same_on_every_call_and_of_held_out_items() -> None:
    task = TASKS[0]
    phrases = task.phrases(20, num_items=3)
    assert phrases == task.phrases(20, num_items=3)
    assert all(len(items) == 3 and set(items) <= set(task.words) for items in map(str.split, phrases))


@pytest.mark.parametrize(
    ("digits", "spelled"),
    [
        ("0", "zero"),
        ("13", "thirteen"),
        ("20", "twenty"),
        ("99", "ninety-nine"),
        ("100", "one hundred"),
        ("1000", "one thousand"),
        ("9999", "nine thousand nine hundred ninety-nine"),
    ],
)
def test_numbers_are_spelled(digits: str, spelled: str) -> None:
    assert spell_number(digits) == spelled


def test_pig_latin_moves_the_consonants_before_the_first_vowel() -> None:
    assert [pig_latin(word) for word in ("string", "owl", "yes")] == ["ingstray", "owlway", "esyay"]


def test_tasks_need_no_torch() -> None:
    code = "import demo.tasks, sys; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
