"""JSON from strangers: one object, no key twice, no NaN, no stack overflow."""

import json
from typing import Any


def parse_object(data: bytes) -> dict[str, Any]:
    """The JSON object in `data` (UTF-8). Raises ValueError saying what is wrong."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) != len(items):
            raise ValueError("a key appears twice")
        return found

    def constant(name: str) -> Any:
        raise ValueError(f"{name} is no JSON number")

    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=pairs, parse_constant=constant)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8") from error
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    return value
