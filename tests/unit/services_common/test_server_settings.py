"""Which combinations of address, access control and TLS a server starts with."""

import pytest

from services.common.server_settings import ServerSettings


@pytest.fixture
def files(tmp_path):
    paths = {}
    for name in ("cert", "key", "ca"):
        paths[name] = tmp_path / name
        paths[name].write_text("")
    return paths


def test_loopback_may_be_open(files):
    for listen in ("127.0.0.1:0", "[::1]:1", "localhost:7"):
        ServerSettings().check_exposure(listen)


def test_other_addresses_need_tokens_and_tls_or_leave(files):
    tls = {"tls_cert_file": files["cert"], "tls_key_file": files["key"]}
    ServerSettings(auth="on", **tls).check_exposure("0.0.0.0:1")
    ServerSettings(allow_remote=True).check_exposure("0.0.0.0:1")
    for open_settings, why in (
        (ServerSettings(), "access control is off"),
        (ServerSettings(**tls), "access control is off"),
        (ServerSettings(auth="on"), "plain text"),
    ):
        with pytest.raises(ValueError, match=why):
            open_settings.check_exposure("0.0.0.0:1")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"tls_cert_file": "cert"}, "both"),
        ({"tls_key_file": "key"}, "both"),
        ({"tls_client_ca_file": "ca"}, "needs --tls-cert-file"),
        ({"tls_cert_file": "cert", "tls_key_file": "none"}, "--tls-key-file: .* is not a file"),
    ],
)
def test_half_of_tls_is_refused(files, tmp_path, given, says):
    paths = {flag: files.get(name, tmp_path / name) for flag, name in given.items()}
    with pytest.raises(ValueError, match=says):
        ServerSettings(**paths).check_exposure("127.0.0.1:0")
