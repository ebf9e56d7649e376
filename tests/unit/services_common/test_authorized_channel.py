"""How a token goes with each call."""

import pytest

from services.common.authorized_channel import AuthorizedChannel, bearer, is_token


@pytest.mark.parametrize(
    ("text", "good"), [("mlt_1_x", True), ("", False), ("a b", False), ("a\n", False), ("é", False)]
)
def test_what_can_be_sent_as_a_token(text, good):
    assert is_token(text) is good


def test_a_token_is_shown_as_a_bearers():
    assert bearer("mlt_1_x") == (("authorization", "Bearer mlt_1_x"),)


def test_every_call_carries_the_metadata_and_its_own():
    class Channel:
        closed = False

        def unary_unary(self, path):
            return lambda request, metadata=(), timeout=None: (path, request, metadata, timeout)

        def close(self):
            self.closed = True

    inner = Channel()
    channel = AuthorizedChannel(inner, lambda: (("a", "1"),))
    call = channel.unary_unary("/x")
    assert call("r", timeout=3) == ("/x", "r", (("a", "1"),), 3)
    assert call("r", metadata=(("b", "2"),))[2] == (("b", "2"), ("a", "1"))
    channel.close()
    assert inner.closed
