"""Object storage of a private CA, and readers that reach it at another address than the store."""

import contextlib
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import pytest

from services.adapter_store.byte_places import open_byte_places
from services.adapter_store.imports.s3_source import S3Source
from services.adapter_store.metadata import Database
from services.adapter_store.settings import PlaceSettings, Settings
from services.adapter_store.store import utc_now
from services.common.errors import Reason, ServiceError
from tests.adapter_files import sha256
from tests.certificates import Authority
from tests.s3_server import BUCKET, S3Server

DATA = b"weights" * 1000


@pytest.fixture
def credentials(s3_server, monkeypatch):
    for name, value in s3_server.environ.items():
        monkeypatch.setenv(name, value)


@contextlib.contextmanager
def blobs_of(place, sqlite_url, tmp_path):
    with (
        contextlib.closing(Database(sqlite_url)) as database,
        open_byte_places(place, tmp_path, database, utc_now) as (blobs, _),
    ):
        yield blobs


def put(blobs):
    blobs.put(sha256(DATA), DATA)
    return sha256(DATA)


@pytest.fixture
def private(tmp_path):
    """A server whose certificate an authority of our own has signed, and the authority."""
    authority = Authority(tmp_path)
    (tmp_path / "private").mkdir()
    with S3Server(tmp_path / "private", authority.issue("s3")) as server:
        yield server, authority


def test_a_private_ca_vouches_for_the_bucket(credentials, private, sqlite_url, tmp_path):
    server, authority = private
    place = PlaceSettings(data_dir=tmp_path / "a", blob_url=server.url("p"), blob_ca_file=authority.ca_file)
    with blobs_of(place, sqlite_url, tmp_path) as blobs:
        digest = put(blobs)
        assert blobs.is_intact(digest, len(DATA))
        with blobs.open(digest) as read:
            assert read.read() == DATA


@pytest.mark.parametrize("given", ["none", "another"])
def test_without_its_ca_the_bucket_is_not_used(credentials, private, sqlite_url, tmp_path, given):
    server, _ = private
    ca_file = Authority(tmp_path, "other").ca_file if given == "another" else None
    place = PlaceSettings(data_dir=tmp_path / "a", blob_url=server.url("p"), blob_ca_file=ca_file)
    with pytest.raises(OSError, match="does not answer"), blobs_of(place, sqlite_url, tmp_path):
        pass


def test_imports_come_from_a_private_ca_as_well(credentials, private, tmp_path):
    server, authority = private
    source = server.root / "data" / BUCKET / "support"
    source.mkdir()
    (source / "README.md").write_bytes(b"# support")
    settings = {"import_s3_endpoint": server.endpoint, "import_s3_buckets": BUCKET}
    s3 = Settings(**settings, import_s3_ca_file=authority.ca_file).import_places().s3
    opened = S3Source.open(f"s3://{BUCKET}/support", s3)
    assert [file.path for file in opened.files] == ["README.md"]
    opened.close()
    with pytest.raises(ServiceError) as caught:
        S3Source.open(f"s3://{BUCKET}/support", Settings(**settings).import_places().s3)
    assert caught.value.reason is Reason.STORE_UNAVAILABLE


@pytest.mark.parametrize(
    ("scheme", "file", "says"),
    [
        ("https", "none", "--import-s3-ca-file: .* is not a file"),
        ("http", "ca", "--import-s3-endpoint: a CA file is given"),
    ],
)
def test_a_ca_that_is_of_no_use_is_refused_at_start(tmp_path, scheme, file, says):
    (tmp_path / "ca").write_text("")
    with pytest.raises(ValueError, match=says):
        Settings(import_s3_endpoint=f"{scheme}://127.0.0.1:1", import_s3_ca_file=tmp_path / file)


def test_readers_get_urls_of_the_public_endpoint_that_work_there(
    credentials, s3_server, s3_url, sqlite_url, tmp_path
):
    # The same server by another name, which the signature covers.
    public = f"http://localhost:{s3_server.port}"
    place = PlaceSettings(data_dir=tmp_path, blob_url=s3_url, blob_public_endpoint=public)
    with blobs_of(place, sqlite_url, tmp_path) as blobs:
        digest = put(blobs)
        url = blobs.read_url(digest).url
        assert urlsplit(url).netloc == f"localhost:{s3_server.port}"
        with urllib.request.urlopen(url, timeout=10) as response:
            assert response.read() == DATA
        altered = url.replace("localhost", "127.0.0.1")
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(altered, timeout=10)
