import base64
import json

import pytest

from services.adapter_store.domain.listing import check_page_size, list_page
from services.common.errors import Reason, ServiceError

ROWS = [f"n{i:02}" for i in range(25)]


def page(page_size=10, token="", scope="names"):
    def fetch(after, limit):
        return [row for row in ROWS if after is None or row > after[0]][:limit]

    return list_page(scope, page_size, token, ("",), fetch, lambda row: (row,))


def test_pages_give_every_row_once_in_order():
    rows, token, sizes = [], "", []
    while True:
        listing = page(token=token)
        rows += listing.rows
        sizes.append(len(listing.rows))
        token = listing.next_page_token
        if not token:
            break
    assert rows == ROWS
    assert sizes == [10, 10, 5]


def test_a_page_that_ends_exactly_has_no_next():
    assert page(page_size=25).next_page_token == ""
    assert page(page_size=24).next_page_token != ""


def test_default_size_is_fifty():
    assert len(page(page_size=0).rows) == 25


def test_a_page_has_at_most_a_thousand_rows_whatever_is_asked():
    assert [check_page_size(size) for size in (0, 1000, 1001, 2**31 - 1)] == [50, 1000, 1000, 1000]


@pytest.mark.parametrize("page_size", [-1, -(2**31)])
def test_bad_sizes(page_size):
    with pytest.raises(ServiceError) as caught:
        page(page_size=page_size)
    assert caught.value.field == "page_size"


def encode(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "token",
    ["x", "!!!", "é", "A" * 5000, encode(["names"]), encode(["names", 1]), encode(["others", "n1"]),
     encode({"a": 1}), encode(["names", "n1", "n2"]), encode([["names"], "n1"]), encode("[" * 500),
     encode(["names", "\ud800"]), encode(["names", "n\0"])],
)  # fmt: skip
def test_bad_tokens(token):
    with pytest.raises(ServiceError) as caught:
        page(token=token)
    assert (caught.value.reason, caught.value.field) == (Reason.INVALID_FIELD, "page_token")


def test_a_token_of_another_list_is_refused():
    token = page().next_page_token
    with pytest.raises(ServiceError):
        page(token=token, scope="versions/acme")


@pytest.mark.parametrize("number", [-1, True, 1 << 63, 1.5])
def test_number_keys_stay_in_range(number):
    with pytest.raises(ServiceError):
        list_page("v", 10, encode(["v", number]), (0,), lambda after, limit: [], lambda row: (row,))
