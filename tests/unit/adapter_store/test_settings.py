from pathlib import Path

import pytest

from services.adapter_store.settings import PlaceSettings, Settings
from services.common.settings import parse


def read(*argv, kind=Settings):
    return parse(kind, argv, prog="multilora store", description="", environ={})


def test_defaults():
    settings = read()
    assert settings.listen == "127.0.0.1:7001"
    assert settings.data_dir == Path(".multilora/store")
    assert settings.database == f"sqlite:///{Path('.multilora/store/store.sqlite3').absolute()}"
    assert settings.blob_dir(settings.data_dir) == Path(".multilora/store/blobs")
    assert settings.max_upload_bytes == 8 << 30


def test_places():
    settings = read("--data-dir", "/d", "--database-url", "sqlite:////r/x.db", "--blob-url", "file:///b%20c")
    assert (settings.database, settings.blob_dir(settings.data_dir)) == ("sqlite:////r/x.db", Path("/b c"))
    assert read("--data-dir", "/d", kind=PlaceSettings).database == "sqlite:////d/store.sqlite3"


def test_a_password_from_a_file(tmp_path):
    file = tmp_path / "password"
    file.write_text("a/b@c:d \n")
    url = "postgresql://me@db:5433/store?sslmode=require"
    settings = read("--database-url", url, "--database-password-file", str(file))
    assert settings.database == "postgresql://me:a%2Fb%40c%3Ad%20@db:5433/store?sslmode=require"
    assert not settings.is_embedded
    assert read().is_embedded


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "localhost:7001", "[::1]:7001", "127.9.9.9:1"])
def test_loopback_needs_no_leave(listen):
    assert read("--listen", listen).listen == listen


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--listen", "0.0.0.0:7001"], "--allow-remote"),
        (["--listen", "10.0.0.1:7001"], "--allow-remote"),
        (["--listen", "[::]:7001"], "--allow-remote"),
        (["--listen", "store.example:7001"], "--allow-remote"),
        (["--listen", "7001"], "HOST:PORT"),
        (["--database-url", "postgresql://x"], "no database"),
        (["--database-url", "postgresql:///x"], "no host"),
        (["--database-url", "postgresql://h:port/x"], "port"),
        (["--database-url", "mysql://root:hunter2@h/x"], "postgresql://"),
        (["--database-password-file", "/none"], "must name a user"),
        (
            ["--database-url", "postgresql://u:hunter2@h/x", "--database-password-file", "/none"],
            "no password",
        ),
        (["--database-url", "postgresql://u@h/x", "--database-password-file", "/none"], "cannot be read"),
        (["--database-url", "postgresql://u@h/x", "--database-password-file", "/dev/null"], "is empty"),
        (["--database-url", "sqlite://"], "sqlite:///"),
        (["--blob-url", "s3:bucket"], "s3://BUCKET"),
        (["--blob-url", "s3://b?endpoint=x"], "http://HOST"),
        (["--blob-url", "s3://b?endpoint=https://a:b@x"], "must not hold credentials"),
        (["--blob-url", "s3://b?regoin=x"], "regoin"),
        (["--blob-url", "s3://b", "--blob-credentials-file", "/nowhere"], "--blob-credentials-file"),
        (["--blob-url", "s3://b", "--blob-ca-file", "/nowhere"], "--blob-ca-file"),
        (["--blob-url", "s3://b", "--blob-public-endpoint", "x"], "--blob-public-endpoint"),
        (["--blob-url", "s3://b", "--presign-expiry-s", "604801"], "604800"),
        (["--blob-url", "s3://b", "--upload-memory-bytes", "0"], "--upload-memory-bytes"),
        (["--blob-url", "file://host/x"], "file:///"),
        (["--blob-url", "/plain"], "file:///"),
        (["--max-upload-bytes", "0"], "--max-upload-bytes"),
        (["--max-upload-bytes", "lots"], "MiB"),
        (["--log-level", "loud"], "debug"),
    ],
)
def test_bad_values_are_usage_errors(argv, says, capsys):
    with pytest.raises(SystemExit) as caught:
        read(*argv)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert says in error
    assert "hunter2" not in error


def test_remote_by_leave():
    assert (
        read("--listen", "0.0.0.0:7001", "--allow-remote", "--max-upload-bytes", "1GiB").max_upload_bytes
        == 1 << 30
    )


def test_buckets_to_import_from_are_named_one_by_one(tmp_path):
    secret = tmp_path / "credentials"
    secret.write_text("[default]\naws_access_key_id = a\naws_secret_access_key = b\n")
    there = ("--import-s3-endpoint", "http://s3:9000", "--import-s3-credentials-file", str(secret))
    for text, buckets in (("", set()), ("one", {"one"}), (" one, two.three ,", {"one", "two.three"})):
        s3 = read(*there, "--import-s3-buckets", text).import_places().s3
        assert s3 is not None
        assert s3.buckets == buckets


@pytest.mark.parametrize(
    ("endpoint", "buckets", "says"),
    [("", "one", "say with --import-s3-endpoint"), ("http://s3:9000", "one,*", "'*' is no bucket's name")],
)
def test_buckets_to_import_from_must_make_sense(endpoint, buckets, says, capsys):
    with pytest.raises(SystemExit):
        read("--import-s3-endpoint", endpoint, "--import-s3-buckets", buckets)
    assert f"--import-s3-buckets: {says}" in capsys.readouterr().err


def test_credentials_to_import_with_are_missed_by_their_own_flag(tmp_path):
    secret = tmp_path / "credentials"
    secret.write_text("[default]\n")
    settings = read("--import-s3-endpoint", "http://s3:9000", "--import-s3-credentials-file", str(secret))
    with pytest.raises(OSError, match=r"--import-s3-credentials-file: .* has no"):
        settings.import_places()
