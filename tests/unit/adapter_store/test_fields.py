import pytest

from services.adapter_store.domain.fields import (
    MAX_LABELS,
    check_labels,
    check_range,
    check_sha256,
    check_text,
    quoted,
)
from services.common.errors import Reason, ServiceError


@pytest.mark.parametrize(
    "check",
    [
        lambda: check_text("", "f", max_chars=3, required=True),
        lambda: check_text("four", "f", max_chars=3),
        lambda: check_text("a\x00b", "f", max_chars=3),
        lambda: check_text("\ud800", "f", max_chars=3),
        lambda: check_labels({str(i): "" for i in range(MAX_LABELS + 1)}, "f"),
        lambda: check_sha256("A" * 64, "f"),
        lambda: check_sha256("a" * 63, "f"),
        lambda: check_range(0, "f", low=1, high=2),
        lambda: check_range(3, "f", low=1, high=2),
    ],
)
def test_refusals_name_the_field(check):
    with pytest.raises(ServiceError) as caught:
        check()
    assert caught.value.reason is Reason.INVALID_FIELD
    assert caught.value.field == "f"


def test_what_is_fine_comes_back():
    assert check_text("a\tb\n", "f", max_chars=4) == "a\tb\n"
    labels = {"team": "söpört"}
    assert check_labels(labels) == labels
    assert check_labels(labels) is not labels
    assert check_sha256("0" * 64, "f") == "0" * 64
    assert check_range(2, "f", low=1, high=2) == 2


@pytest.mark.parametrize(("key", "value"), [("", "x"), ("k" * 64, "x"), ("k", "v" * 256), ("k", "\x01")])
def test_bad_labels(key, value):
    with pytest.raises(ServiceError):
        check_labels({key: value})


def test_quoted_is_short_and_printable():
    assert quoted("a\nb\ud800") == "'a\\nb\\ud800'"
    assert len(quoted("x" * 10_000)) < 170
    assert len(quoted("\N{GRINNING FACE}" * 10_000).encode()) < 170
