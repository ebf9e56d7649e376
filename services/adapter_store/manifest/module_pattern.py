"""Which rank and alpha a module has: PEFT's rank_pattern and alpha_pattern, with patterns that cannot hang.

Source: PEFT's `get_pattern_key`: the first key for which re.match(r"(.*\\.)?(KEY)$", path) holds.
"""

import re
from collections.abc import Iterable

from services.adapter_store.domain.fields import quoted
from services.adapter_store.manifest.refusals import malformed, unsupported

MAX_PATTERNS = 1024
MAX_PATTERN_CHARS = 256
MAX_BRANCHING_PATTERNS = 16

# An upper bound on the ways in which one module path of about 40 characters can be tried.
_PATH_CHARS = 40
_MAX_WAYS = 100_000

_CLASS_OR_ESCAPE = re.compile(r"\\[A-Za-z.\-]|\[\^?[A-Za-z0-9_.]+(?:-[A-Za-z0-9_.]+)*\]")
# Repeated groups, counted repeats, extensions, stacked repeats, other classes and other escapes.
_TOO_RICH = re.compile(r"\)[*+]|\{|\(\?|[*+?][*+?]|[\[\]\\]")
_TOO_SLOW = (
    "could take too long to match: use at most two of * and +, neither after a bracket, and plain "
    "[classes], or write the modules' names out"
)


def compile_patterns(option: str, keys: Iterable[str]) -> list[re.Pattern[str]]:
    """`keys` ready to match from the start of a module path such as `model.layers.0.mlp.up_proj`.

    Raises INVALID_ADAPTER or UNSUPPORTED_ADAPTER naming the key of `option` that is no safe pattern.
    """
    keys = list(keys)
    if len(keys) > MAX_PATTERNS:
        raise unsupported(option, f"has {len(keys)} keys: at most {MAX_PATTERNS} are supported")
    compiled = []
    num_branching = 0
    for key in keys:
        field = f"{option}[{key}]"
        if len(key) > MAX_PATTERN_CHARS:
            raise unsupported(field, f"has {len(key)} characters: at most {MAX_PATTERN_CHARS} are supported")
        plain = _CLASS_OR_ESCAPE.sub("x", key)
        if _TOO_RICH.search(plain):
            raise unsupported(field, _TOO_SLOW)
        try:
            # By itself first: `)|(` is a pattern only inside the brackets that PEFT puts around it.
            re.compile(key)
            compiled.append(re.compile(rf"(.*\.)?({key})$"))
        except (re.error, OverflowError, RecursionError) as error:
            raise malformed(
                field, f"is no regular expression ({quoted(str(error))}): write the module's name"
            ) from error
        ways = _ways(plain)
        num_branching += ways > 1
        if ways > _MAX_WAYS or num_branching > MAX_BRANCHING_PATTERNS:
            raise unsupported(field, _TOO_SLOW)
    return compiled


def _ways(plain: str) -> int:
    """At most how many ways a backtracking matcher tries; beyond _MAX_WAYS the number does not matter."""
    ways: int = _PATH_CHARS ** min(len(re.findall(r"[*+]", plain)), 9)
    ways *= 2 ** min(plain.count("?"), 20)
    num_alternatives: list[int] = []
    for char in f"({plain})":
        if char == "(":
            num_alternatives.append(1)
        elif char == "|":
            num_alternatives[-1] += 1
        elif char == ")":
            ways = min(ways * num_alternatives.pop(), _MAX_WAYS + 1)
    return ways
