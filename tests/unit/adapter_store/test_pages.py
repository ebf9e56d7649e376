from google.protobuf.wrappers_pb2 import StringValue

from services.adapter_store.domain.listing import Listing
from services.adapter_store.servicer.pages import MAX_PAGE_BYTES, fit_page


def message(row):
    return StringValue(value=row)


def test_all_rows_that_fit_and_the_lists_own_token():
    page = Listing(("a", "b"), ("after a", "after b"))
    assert fit_page(page, message) == ([message("a"), message("b")], "after b")
    assert fit_page(Listing((), ()), message) == ([], "")


def test_rows_beyond_one_message_are_left_to_the_next_page():
    fat = "x" * (MAX_PAGE_BYTES // 2 - 100)
    page = Listing((fat, fat, "c", fat), ("after 1", "after 2", "after 3", ""))
    messages, token = fit_page(page, message)
    assert ([m.value for m in messages], token) == ([fat, fat, "c"], "after 3")


def test_one_row_always_goes():
    page = Listing(("x" * (MAX_PAGE_BYTES + 1), "b"), ("after 1", ""))
    messages, token = fit_page(page, message)
    assert (len(messages), token) == (1, "after 1")
