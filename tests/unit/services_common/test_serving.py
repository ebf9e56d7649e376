"""What a service says at start of who may call it."""

import logging

import pytest

from services.common.server_settings import ServerSettings
from services.common.serving import say_who_may_call


@pytest.mark.parametrize(
    ("settings", "level", "words"),
    [
        ({}, logging.WARNING, "access control is off: whoever reaches 127.0.0.1:7 may read and change"),
        ({"auth": "on"}, logging.INFO, "access control is on: calls to 127.0.0.1:7 need a token"),
    ],
)
def test_it_warns_where_anybody_may_do_anything(caplog, settings, level, words):
    with caplog.at_level(logging.INFO):
        say_who_may_call(ServerSettings(**settings), "127.0.0.1:7")
    [record] = caplog.records
    assert record.levelno == level
    assert words in record.getMessage()


@pytest.mark.parametrize("auth", ["on", "off"])
def test_it_says_where_a_certificate_is_asked_for(caplog, tmp_path, auth):
    with caplog.at_level(logging.INFO):
        say_who_may_call(ServerSettings(auth=auth, tls_client_ca_file=tmp_path / "ca"), "127.0.0.1:7")
    assert "with a certificate of the client CAs" in caplog.text
