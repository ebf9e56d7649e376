"""The engine with a real model: the same streams whether steps overlap or not."""

import pytest

pytest.importorskip("tokenizers")

from tests.overlap_checks import check_same_streams


def test_streams_are_the_same_with_and_without_overlap() -> None:
    check_same_streams("cpu")
