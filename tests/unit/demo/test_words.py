"""The split of words: nothing that is measured is ever trained on."""

import itertools
import string

from demo.words import ENGLISH, MAX_LETTERS, MIN_LETTERS, held_out_words, is_held_out, training_words


def test_training_words_are_never_held_out_and_of_the_promised_shape() -> None:
    for word in itertools.islice(training_words(seed=0), 5000):
        assert not is_held_out(word)
        assert MIN_LETTERS <= len(word) <= MAX_LETTERS
        assert set(word) <= set(string.ascii_lowercase)


def test_held_out_words_are_distinct_held_out_and_the_same_on_every_call() -> None:
    words = held_out_words(500)
    assert len(set(words)) == 500
    assert all(is_held_out(word) for word in words)
    assert held_out_words(500) == words
    assert held_out_words(900)[:500] == words


def test_the_split_is_the_one_the_weights_were_trained_with() -> None:
    held_out = [word for word in ENGLISH[:60] if is_held_out(word)]
    assert held_out == ["able", "above", "actor", "artist", "badge", "black", "bone", "bread"]


def test_the_same_seed_gives_the_same_training_words() -> None:
    assert [*itertools.islice(training_words(7), 50)] == [*itertools.islice(training_words(7), 50)]
    assert [*itertools.islice(training_words(7), 50)] != [*itertools.islice(training_words(8), 50)]
