"""Names as labels, of which there may be only so many: who comes after the first ones is counted together.

Must not know what is counted.
"""

# No tenant can have it: names begin with a letter or a digit.
OTHER = "_other"


class BoundedNames:
    """The first `most` names stand for themselves, for good; all others for `_other`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._names: set[str] = set()

    def label(self, name: str) -> str:
        """What `name` is counted as."""
        if name in self._names:
            return name
        if len(self._names) >= self._most:
            return OTHER
        self._names.add(name)
        return name

    def __repr__(self) -> str:
        return f"BoundedNames({len(self._names)} of {self._most})"
