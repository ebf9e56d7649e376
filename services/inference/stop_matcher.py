"""Finds the first stop string in a text that arrives in pieces.

Knuth-Morris-Pratt, one automaton a stop string: constant work a character and stop, whatever the
pieces. Must not know tokens.
"""

from collections.abc import Sequence


class StopMatcher:
    """Passes text through, but for what is or may become a stop string.

    The first stop string to be complete wins; of several that end together, the longest.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [(stop, _failures(stop)) for stop in stops]
        self._matched_chars = [0] * len(stops)
        self._held = ""

    def push(self, text: str, *, may_stop: bool = True) -> tuple[str, str | None]:
        """(text to deliver now, the stop string found or None); the text after a stop is dropped.

        A stop string that ends inside `text` counts only if `may_stop`.
        """
        if not self._stops:
            return text, None
        text, num_held = self._held + text, len(self._held)
        for end in range(num_held + 1, len(text) + 1):
            complete = self._advance(text[end - 1])
            if complete and may_stop:
                stop = max(complete, key=len)
                self._held = ""
                return text[: end - len(stop)], stop
        num_open = max(self._matched_chars)
        released, self._held = text[: len(text) - num_open], text[len(text) - num_open :]
        return released, None

    def flush(self) -> str:
        """What was held back, once no more text can come."""
        held, self._held = self._held, ""
        self._matched_chars = [0] * len(self._stops)
        return held

    def _advance(self, char: str) -> list[str]:
        complete = []
        for index, (stop, failures) in enumerate(self._stops):
            matched = self._matched_chars[index]
            while matched and stop[matched] != char:
                matched = failures[matched - 1]
            if stop[matched] == char:
                matched += 1
            if matched == len(stop):
                complete.append(stop)
                matched = failures[matched - 1]
            self._matched_chars[index] = matched
        return complete


def _failures(stop: str) -> list[int]:
    # failures[i]: length of the longest proper prefix of stop[:i+1] that is also its suffix.
    failures = [0] * len(stop)
    matched = 0
    for index in range(1, len(stop)):
        while matched and stop[matched] != stop[index]:
            matched = failures[matched - 1]
        if stop[matched] == stop[index]:
            matched += 1
        failures[index] = matched
    return failures
