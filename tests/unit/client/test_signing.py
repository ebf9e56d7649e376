import stat

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from typer.testing import CliRunner

from client.command.app import app
from client.errors import MultiloraError
from client.signing import generate_key, read_key, read_public_key


def refusal(call, *arguments):
    with pytest.raises(MultiloraError) as caught:
        call(*arguments)
    return str(caught.value)


def test_a_generated_key_is_read_again_and_only_its_owner_may(tmp_path):
    public_key = generate_key(tmp_path / "ci.pem")
    assert stat.S_IMODE((tmp_path / "ci.pem").stat().st_mode) == 0o600
    key = read_key(tmp_path / "ci.pem", "ci")
    assert (key.key_id, key.public_key) == ("ci", public_key)
    assert key.sign(b"x").key_id == "ci"
    assert len(key.sign(b"x").signature) == 64
    assert read_public_key(public_key.hex()) == public_key


def test_a_key_is_never_overwritten(tmp_path):
    generate_key(tmp_path / "ci.pem")
    before = (tmp_path / "ci.pem").read_bytes()
    assert "never overwritten" in refusal(generate_key, tmp_path / "ci.pem")
    assert (tmp_path / "ci.pem").read_bytes() == before
    assert "cannot be written" in refusal(generate_key, tmp_path / "nowhere" / "ci.pem")


def test_what_is_no_key_is_refused_in_words(tmp_path):
    assert "cannot be read" in refusal(read_key, tmp_path / "none.pem", "ci")
    (tmp_path / "bad.pem").write_text("no key")
    assert "no PEM private key" in refusal(read_key, tmp_path / "bad.pem", "ci")
    other = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "other.pem").write_bytes(other)
    assert "no Ed25519 key" in refusal(read_key, tmp_path / "other.pem", "ci")
    assert "no public key" in refusal(read_public_key, "xyz")
    assert "no public key" in refusal(read_public_key, "00")


def test_the_command_prints_the_public_key_and_signing_needs_both_options(tmp_path):
    done = CliRunner().invoke(app, ["key", "generate", str(tmp_path / "ci.pem")])
    assert done.stdout == read_key(tmp_path / "ci.pem", "ci").public_key.hex() + "\n"
    assert str(tmp_path / "ci.pem") in done.stderr
    pushed = ["push", str(tmp_path), "--adapter", "acme/x"]
    assert CliRunner().invoke(app, [*pushed, "--key-id", "ci"]).exit_code == 2
    assert CliRunner().invoke(app, [*pushed, "--sign-key", str(tmp_path / "ci.pem")]).exit_code == 2
