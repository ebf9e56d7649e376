"""JSON from strangers: one object, no key twice, no NaN, no endless number, no stack overflow."""

import json
from typing import Any

# More than any size or offset has, and less than what Python refuses to convert in words of its own.
MAX_DIGITS = 300


def parse_object(data: bytes) -> dict[str, Any]:
    """The JSON object in `data` (UTF-8). Raises ValueError saying what is wrong."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) != len(items):
            raise ValueError("a key appears twice")
        return found

    def constant(name: str) -> Any:
        raise ValueError(f"{name} is no JSON number")

    def whole(digits: str) -> int:
        if len(digits) > MAX_DIGITS:
            raise ValueError("a number has too many digits")
        return int(digits)

    try:
        text = data.decode("utf-8")
        value = json.loads(text, object_pairs_hook=pairs, parse_constant=constant, parse_int=whole)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8") from error
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    return value
