"""Pages over a list sorted by name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import ServiceError
from services.inference.page_token import MAX_PAGE_SIZE, take_page


@given(st.sets(st.text(min_size=1, max_size=5), max_size=30), st.integers(1, 7))
def test_the_pages_make_up_the_list(names, page_size):
    items, token, pages = sorted(names), "", []
    while True:
        page, token = take_page(items, str, page_size, token)
        pages.append(page)
        if not token:
            break
    assert [name for page in pages for name in page] == items
    assert all(len(page) == page_size for page in pages[:-1])


def test_what_is_gone_between_two_pages_does_not_hide_the_rest():
    _, token = take_page(["a", "b", "c", "d"], str, 2, "")
    assert take_page(["a", "c", "d"], str, 2, token) == (["c", "d"], "")


def test_sizes():
    items = [f"{number:05}" for number in range(2 * MAX_PAGE_SIZE)]
    assert len(take_page(items, str, 0, "")[0]) == 50
    assert len(take_page(items, str, 10**6, "")[0]) == MAX_PAGE_SIZE


@pytest.mark.parametrize(
    ("size", "token", "field"), [(-1, "", "page_size"), (1, "?", "page_token"), (1, "/w==", "page_token")]
)
def test_bad_pages(size, token, field):
    with pytest.raises(ServiceError) as raised:
        take_page(["a"], str, size, token)
    assert raised.value.field == field
