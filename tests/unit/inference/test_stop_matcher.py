"""StopMatcher against a search of the whole text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.stop_matcher import StopMatcher

ALPHABET = "abX"


def first_match(text: str, stops: list[str]) -> tuple[int, str] | None:
    ends = [
        (end, -len(stop), stop) for stop in stops for end in range(len(text) + 1) if text[:end].endswith(stop)
    ]
    if not ends:
        return None
    end, _, stop = min(ends)
    return end - len(stop), stop


def run(stops: list[str], pieces: list[str]) -> tuple[str, str | None]:
    matcher, delivered = StopMatcher(stops), ""
    for piece in pieces:
        text, stop = matcher.push(piece)
        delivered += text
        if stop is not None:
            return delivered, stop
    return delivered + matcher.flush(), None


@given(
    stops=st.lists(st.text(ALPHABET, min_size=1, max_size=5), max_size=4),
    pieces=st.lists(st.text(ALPHABET, max_size=6), max_size=12),
)
def test_however_the_text_is_cut_the_first_match_ends_it(stops, pieces):
    whole = "".join(pieces)
    found = first_match(whole, stops)
    expected = (whole, None) if found is None else (whole[: found[0]], found[1])
    assert run(stops, pieces) == expected


@given(
    stops=st.lists(st.text(ALPHABET, min_size=1, max_size=5), min_size=1, max_size=4),
    pieces=st.lists(st.text(ALPHABET, max_size=6), max_size=12),
)
def test_only_a_possible_start_of_a_stop_is_held_back(stops, pieces):
    matcher, taken, delivered = StopMatcher(stops), "", ""
    for piece in pieces:
        text, stop = matcher.push(piece)
        taken, delivered = taken + piece, delivered + text
        if stop is not None:
            return
        held = taken[len(delivered) :]
        longest = max(
            n for n in range(max(map(len, stops))) if any(n < len(s) and taken.endswith(s[:n]) for s in stops)
        )
        assert taken.endswith(held)
        assert len(held) == longest


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["one EN", "D two"], ("one ", "END")),
        (["one EN", "Dtwo"], ("one ", "END")),
        (["one E", "ND"], ("one ", "END")),
        (["one EN"], ("one EN", None)),
        (["EENEN", "D"], ("EEN", "END")),
    ],
)
def test_a_stop_string_over_borders(pieces, expected):
    assert run(["END"], pieces) == expected


def test_a_stop_that_may_not_stop_yet_is_delivered():
    matcher = StopMatcher(["ab"])
    assert matcher.push("xab", may_stop=False) == ("xab", None)
    assert matcher.push("ab") == ("", "ab")


def test_a_stop_begun_too_early_counts_when_it_ends_in_time():
    matcher = StopMatcher(["ab"])
    assert matcher.push("xa", may_stop=False) == ("x", None)
    assert matcher.push("b") == ("", "ab")


def test_of_stops_that_end_together_the_longest_is_cut():
    assert run(["b", "ab"], ["xab"]) == ("x", "ab")
