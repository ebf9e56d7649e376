"""Checks of the texts, labels and numbers that callers send, so that hostile input is bounded.

Every refusal is INVALID_FIELD and names the field.
"""

import re
from collections.abc import Mapping

from services.common.errors import invalid_field

MAX_LABELS = 64
MAX_LABEL_KEY_CHARS = 63
MAX_LABEL_VALUE_CHARS = 255
MAX_SHOWN_BYTES = 160

_SHA256 = re.compile(r"[0-9a-f]{64}")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


def quoted(text: str) -> str:
    """`text` in quotes, short and printable enough for a message."""
    printable = "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode()
        for c in text[: MAX_SHOWN_BYTES + 1]
    )
    data = printable.encode()
    if len(data) > MAX_SHOWN_BYTES:
        printable = data[:MAX_SHOWN_BYTES].decode("utf-8", "ignore") + "..."
    return f"'{printable}'"


def check_text(text: str, field: str, *, max_chars: int, required: bool = False) -> str:
    """`text` if it is short enough and free of control characters (tab and newline are fine)."""
    if required and not text:
        raise invalid_field(field, "must not be empty")
    if len(text) > max_chars:
        raise invalid_field(field, f"has {len(text)} characters: at most {max_chars} are allowed")
    if _CONTROL.search(text):
        raise invalid_field(field, "has a control character: remove it")
    return text


def check_labels(labels: Mapping[str, str], field: str = "labels") -> dict[str, str]:
    """A copy of `labels` if there are few enough and all are short enough."""
    if len(labels) > MAX_LABELS:
        raise invalid_field(field, f"has {len(labels)} labels: at most {MAX_LABELS} are allowed")
    for key, value in labels.items():
        check_text(key, f"{field}.key", max_chars=MAX_LABEL_KEY_CHARS, required=True)
        check_text(value, f"{field}[{key}]", max_chars=MAX_LABEL_VALUE_CHARS)
    return dict(labels)


def check_sha256(text: str, field: str) -> str:
    """`text` if it is a sha256 in lower-case hex."""
    if not _SHA256.fullmatch(text):
        raise invalid_field(field, f"{quoted(text)} is no sha256: give 64 lower-case hex digits")
    return text


def check_range(value: int, field: str, *, low: int, high: int) -> int:
    """`value` if low <= value <= high."""
    if not low <= value <= high:
        raise invalid_field(field, f"is {value}: must be from {low} to {high}")
    return value
