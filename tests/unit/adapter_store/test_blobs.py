import errno
import os

import pytest

from services.adapter_store.blobs import CHUNK_BYTES, LocalBlobs, read_range
from services.common.errors import Code, Reason, ServiceError
from tests.adapter_files import sha256


@pytest.fixture
def blobs(tmp_path):
    return LocalBlobs(tmp_path / "blobs")


def put(blobs, tmp_path, data):
    staged = tmp_path / "staged"
    staged.write_bytes(data)
    blobs.put(staged, sha256(data))
    staged.unlink()
    return sha256(data)


def path_of(tmp_path, digest):
    return tmp_path / "blobs" / digest[:2] / digest[2:4] / digest


def read(blobs, digest, size, offset=0, limit=None):
    return b"".join(read_range(blobs, digest, size, offset, size if limit is None else limit))


def test_put_and_read(blobs, tmp_path):
    digest = put(blobs, tmp_path, b"hello")
    assert read(blobs, digest, 5) == b"hello"
    assert read(blobs, digest, 5, 1, 3) == b"ell"
    assert [entry.sha256 for entry in blobs.entries()] == [digest]
    assert blobs.is_intact(digest, 5)
    assert not blobs.is_intact(digest, 6)
    assert not blobs.is_intact("0" * 64, 5)
    assert blobs.leftovers() == []


def test_putting_the_same_again_is_fine_and_repairs(blobs, tmp_path):
    digest = put(blobs, tmp_path, b"hello")
    path_of(tmp_path, digest).write_bytes(b"jello")
    put(blobs, tmp_path, b"hello")
    assert read(blobs, digest, 5) == b"hello"
    staged = tmp_path / "again"
    os.link(path_of(tmp_path, digest), staged)
    blobs.put(staged, digest)
    assert blobs.leftovers() == []


def test_copies_where_it_cannot_link(blobs, tmp_path, monkeypatch):
    def no_links(source, target):
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr(os, "link", no_links)
    digest = put(blobs, tmp_path, b"x" * 3_000_000)
    assert len(read(blobs, digest, 3_000_000)) == 3_000_000
    assert blobs.leftovers() == []


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
def test_chunks(blobs, tmp_path, size):
    data = os.urandom(size)
    digest = put(blobs, tmp_path, data)
    chunks = list(read_range(blobs, digest, size, 0, size))
    assert b"".join(chunks) == data
    assert all(0 < len(chunk) <= CHUNK_BYTES for chunk in chunks)
    assert read(blobs, digest, size, size // 2, size - size // 2) == data[size // 2 :]
    assert read(blobs, digest, size, size, 0) == b""


@pytest.mark.parametrize("damage", ["first byte", "last byte", "shorter", "longer", "gone"])
@pytest.mark.parametrize("offset", [0, 1])
def test_the_last_chunk_never_comes_from_a_damaged_blob(tmp_path, damage, offset):
    data = os.urandom(2 * CHUNK_BYTES + 5)
    digest = put(LocalBlobs(tmp_path / "blobs"), tmp_path, data)
    path = path_of(tmp_path, digest)
    damaged = {
        "first byte": bytes([data[0] ^ 1]) + data[1:],
        "last byte": data[:-1] + bytes([data[-1] ^ 1]),
        "shorter": data[:-1],
        "longer": data + b"x",
    }
    path.unlink()
    if damage in damaged:
        path.write_bytes(damaged[damage])
    got = []
    chunks = read_range(LocalBlobs(tmp_path / "blobs"), digest, len(data), offset, len(data) - offset)
    with pytest.raises(ServiceError) as caught:
        got.extend(chunks)
    assert (caught.value.code, caught.value.reason) == (Code.DATA_LOSS, Reason.CORRUPT_BLOB)
    assert sum(map(len, got)) < len(data) - offset
    assert "upload" in caught.value.message


def test_damage_after_a_check_is_seen(blobs, tmp_path):
    digest = put(blobs, tmp_path, b"hello")
    assert blobs.is_intact(digest, 5)
    path = path_of(tmp_path, digest)
    path.write_bytes(b"jello")
    os.utime(path, ns=(1, 1))
    assert not blobs.is_intact(digest, 5)


def test_clean_removes_what_an_interrupted_put_left(blobs, tmp_path):
    digest = put(blobs, tmp_path, b"hello")
    (tmp_path / "blobs" / "incoming" / "half").write_bytes(b"he")
    assert len(blobs.leftovers()) == 1
    blobs.clean()
    assert blobs.leftovers() == []
    assert blobs.is_intact(digest, 5)
