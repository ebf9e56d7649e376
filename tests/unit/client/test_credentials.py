"""What a client sends of itself, and where it refuses to."""

import pytest

from client.credentials import Credentials, is_loopback
from client.errors import MultiloraError
from tests.certificates import Authority

TOKEN = "mlt_1_secret"


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1:7001", True),
        ("localhost:1", True),
        ("[::1]:1", True),
        ("unix:/run/store.sock", True),
        ("dns:///localhost:7001", True),
        ("ipv4:127.0.0.1:7", True),
        ("10.0.0.1:7001", False),
        ("dns:///store.example:7001", False),
        ("localhost.example:1", False),
        ("127.0.0.1.example:1", False),
        ("dns://127.0.0.1/store.example:1", False),
    ],
)
def test_which_addresses_are_this_machine(address, local):
    assert is_loopback(address) is local


def test_a_token_goes_in_plain_text_to_this_machine_alone(tmp_path):
    ca_file = Authority(tmp_path).ca_file
    header = (("authorization", f"Bearer {TOKEN}"),)
    assert Credentials(token=TOKEN).metadata("127.0.0.1:1")() == header
    assert Credentials(token=TOKEN, ca_file=ca_file).metadata("store.example:1")() == header
    assert Credentials(token=TOKEN, plaintext_token=True).metadata("store.example:1")() == header
    with pytest.raises(MultiloraError, match="another machine") as caught:
        Credentials(token=TOKEN).metadata("store.example:1")
    assert TOKEN not in str(caught.value)
    assert Credentials().metadata("store.example:1")() == ()


def test_a_token_file_is_read_each_time(tmp_path):
    file = tmp_path / "token"
    file.write_text("mlt_1_a\n")
    metadata = Credentials(token_file=file).metadata("127.0.0.1:1")
    assert metadata() == (("authorization", "Bearer mlt_1_a"),)
    file.write_text("mlt_1_b\n")
    assert metadata() == (("authorization", "Bearer mlt_1_b"),)
    file.write_text("two words\n")
    with pytest.raises(MultiloraError, match="no token") as caught:
        metadata()
    assert caught.value.field == "token_file"
    assert str(file) in str(caught.value)
    assert "two words" not in str(caught.value)


def test_files_that_are_no_good_are_named(tmp_path):
    pair = Authority(tmp_path).issue("client")
    for given, field in (
        ({"ca_file": tmp_path / "none"}, "ca_file"),
        ({"cert_file": pair.cert}, "cert_file"),
        ({"cert_file": pair.cert, "key_file": pair.key}, "ca_file"),
    ):
        with pytest.raises(MultiloraError) as caught:
            Credentials(**given).channel_credentials()
        assert caught.value.field == field
