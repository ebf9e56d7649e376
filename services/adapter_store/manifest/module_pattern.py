"""Which rank and alpha a module has: PEFT's rank_pattern and alpha_pattern, with patterns that cannot hang.

Source: PEFT's `get_pattern_key`: the first key for which re.match(r"(.*\\.)?(KEY)$", path) holds.
"""

import re
from collections.abc import Iterable

from services.adapter_store.manifest.refusals import malformed, unsupported

MAX_PATTERNS = 4096
MAX_PATTERN_CHARS = 256
MAX_BRANCHING_PATTERNS = 16

# An upper bound on the ways in which one module path of about 40 characters can be tried.
_PATH_CHARS = 40
_MAX_WAYS = 100_000


def check_patterns(option: str, keys: Iterable[str]) -> None:
    """Raises INVALID_ADAPTER or UNSUPPORTED_ADAPTER naming the key of `option` that is no safe pattern."""
    keys = list(keys)
    if len(keys) > MAX_PATTERNS:
        raise unsupported(option, f"has {len(keys)} keys: at most {MAX_PATTERNS} are supported")
    num_branching = 0
    for key in keys:
        field = f"{option}[{key}]"
        if len(key) > MAX_PATTERN_CHARS:
            raise unsupported(field, f"has {len(key)} characters: at most {MAX_PATTERN_CHARS} are supported")
        try:
            re.compile(rf"(.*\.)?({key})$")
        except (re.error, OverflowError, RecursionError) as error:
            raise malformed(field, f"is no regular expression ({error}): write the module's name") from error
        ways = _ways(key)
        num_branching += ways > 1
        if ways > _MAX_WAYS or num_branching > MAX_BRANCHING_PATTERNS:
            raise unsupported(
                field,
                "could take too long to match: use at most two of * + ?, none after a bracket, or write the "
                "modules' names out",
            )


def matching_key(keys: Iterable[str], path: str) -> str | None:
    """The first of the checked `keys` that matches module `path`, such as `model.layers.0.mlp.up_proj`."""
    for key in keys:
        if re.match(rf"(.*\.)?({key})$", path):
            return key
    return None


def _ways(key: str) -> int:
    """How many ways a backtracking matcher may have to try, or more; beyond _MAX_WAYS it does not matter."""
    plain = re.sub(r"\\.|\[\^?\]?[^\]]*\]", "x", key)
    if re.search(r"\)[*+{]|\{|\(\?|[*+?][*+]", plain):
        return _MAX_WAYS + 1
    ways = _PATH_CHARS ** min(len(re.findall(r"[*+]", plain)), 9) * 2 ** min(plain.count("?"), 20)
    alternatives = [0]
    for char in plain:
        if char == "(":
            alternatives.append(1)
        elif char == "|":
            alternatives[-1] += 1
        elif char == ")":
            ways *= alternatives.pop()
            if ways > _MAX_WAYS:
                return ways
    return ways * (alternatives[0] + 1)
