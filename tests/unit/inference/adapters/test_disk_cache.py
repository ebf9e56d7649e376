import hashlib
import os
import shutil

import pytest

from services.common.errors import Reason, ServiceError
from services.inference.adapters.disk_cache import DiskCache
from services.inference.adapters.io_orders import FetchSource
from services.inference.adapters.read_buffers import ReadBuffers
from services.inference.adapters.workers import Workers
from services.inference.request import AdapterFile

# Of one chunk and of several.
DATA = {"config": b"{}", "weights": bytes(range(98))}
CHUNK_BYTES = 40
DIGESTS_BYTES = 4 * 32
ENTRY_BYTES = 100 + DIGESTS_BYTES
FILES = [AdapterFile(path, len(data), hashlib.sha256(data).hexdigest()) for path, data in DATA.items()]
KEYS = [hashlib.sha256(bytes([i])).hexdigest() for i in range(4)]


def fill(file, to):
    to.write_bytes(DATA[file.path])


@pytest.fixture
def make_cache():
    caches = []

    def make(directory, capacity_bytes):
        caches.append(DiskCache(directory, capacity_bytes, Workers(2), ReadBuffers(1000, 4), CHUNK_BYTES))
        return caches[-1]

    yield make
    for cache in caches:
        cache.close()


def source(cache, key, fill=fill):
    with cache.open(key, FILES) as contents:
        if contents is not None:
            assert [content.tobytes() for content in contents] == list(DATA.values())
            return FetchSource.DISK
    with cache.fill(key, FILES, fill) as contents:
        assert [content.tobytes() for content in contents] == list(DATA.values())
    return FetchSource.STORE


def test_filled_once_and_found_again_after_a_restart(tmp_path, make_cache):
    first = make_cache(tmp_path / "new" / "cache", 1000)
    assert source(first, KEYS[0]) is FetchSource.STORE
    first.close()
    again = make_cache(tmp_path / "new" / "cache", 1000)
    assert again.held_bytes == ENTRY_BYTES
    assert source(again, KEYS[0]) is FetchSource.DISK


def _damage(path, how):
    if how == "directory is a file":
        shutil.rmtree(path.parent)
        path.parent.touch()
        return
    content = path.read_bytes()
    path.unlink()
    if how == "flipped":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif how == "short":
        path.write_bytes(content[:-1])
    elif how == "long":
        path.write_bytes(content + b"x")
    elif how == "fifo":
        os.mkfifo(path)
    elif how == "endless":
        path.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    "how", ["flipped", "short", "long", "missing", "fifo", "endless", "directory is a file"]
)
@pytest.mark.parametrize("name", ["config", "weights", ".weights.chunks"])
def test_a_damaged_file_is_fetched_again(tmp_path, make_cache, name, how):
    cache = make_cache(tmp_path, 1000)
    source(cache, KEYS[0])
    _damage(tmp_path / KEYS[0] / name, how)
    assert source(cache, KEYS[0]) is FetchSource.STORE
    assert source(cache, KEYS[0]) is FetchSource.DISK


@pytest.mark.parametrize("chunk", [0, 1, 2])
def test_a_flipped_bit_in_any_chunk_is_found(tmp_path, make_cache, chunk):
    cache = make_cache(tmp_path, 1000)
    source(cache, KEYS[0])
    content = bytearray(DATA["weights"])
    content[chunk * CHUNK_BYTES] ^= 128
    (tmp_path / KEYS[0] / "weights").write_bytes(content)
    assert source(cache, KEYS[0]) is FetchSource.STORE


def test_digests_of_other_bytes_do_not_vouch_for_them(tmp_path, make_cache):
    """A digest file that is whole, but another adapter's."""
    cache = make_cache(tmp_path, 1000)
    source(cache, KEYS[0])
    digests = tmp_path / KEYS[0] / ".weights.chunks"
    body = digests.read_bytes()[32:96] + digests.read_bytes()[:32]
    digests.write_bytes(body + hashlib.sha256(body).digest())
    assert source(cache, KEYS[0]) is FetchSource.STORE


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}x"])
def test_bytes_that_come_in_damaged_are_refused_and_not_kept(tmp_path, make_cache, content):
    def damaged(file, to):
        to.write_bytes(content if file.path == "config" else DATA[file.path])

    cache = make_cache(tmp_path, 1000)
    with pytest.raises(ServiceError) as caught:
        source(cache, KEYS[0], damaged)
    assert caught.value.reason is Reason.CORRUPT_BLOB
    assert list(tmp_path.iterdir()) == []


def test_what_is_returned_is_what_was_checked_whatever_becomes_of_the_file(tmp_path, make_cache):
    cache = make_cache(tmp_path, 1000)
    source(cache, KEYS[0])
    with cache.open(KEYS[0], FILES) as (_, weights):
        (tmp_path / KEYS[0] / "weights").write_bytes(b"z" * 98)
        assert weights.tobytes() == DATA["weights"]


def test_least_recently_used_go_first_and_those_in_use_stay(tmp_path, make_cache):
    cache = make_cache(tmp_path, 2 * ENTRY_BYTES + 50)
    for key in KEYS[:2]:
        source(cache, key)
    source(cache, KEYS[0])
    with cache.fill(KEYS[2], FILES, fill), cache.fill(KEYS[3], FILES, fill):
        pass
    assert {path.name for path in tmp_path.iterdir()} == set(KEYS[2:])
    with cache.open(KEYS[2], FILES):
        source(cache, KEYS[0])
        assert (tmp_path / KEYS[2]).is_dir()
    assert {path.name for path in tmp_path.iterdir()} == {KEYS[0], KEYS[2]}
    assert cache.held_bytes == 2 * ENTRY_BYTES


def test_a_smaller_cache_is_trimmed_at_the_start(tmp_path, make_cache):
    cache = make_cache(tmp_path, 1000)
    for key in KEYS:
        source(cache, key)
    cache.close()
    assert make_cache(tmp_path, ENTRY_BYTES).held_bytes == ENTRY_BYTES


def test_a_fill_that_fails_leaves_nothing(tmp_path, make_cache):
    def failing(file, to):
        fill(file, to)
        if file.path == "weights":
            raise OSError("no space")

    cache = make_cache(tmp_path, 1000)
    with pytest.raises(OSError, match="no space"):
        source(cache, KEYS[0], failing)
    assert list(tmp_path.iterdir()) == []
    assert source(cache, KEYS[0]) is FetchSource.STORE


def test_what_a_killed_process_left_half_done_is_removed(tmp_path, make_cache):
    (tmp_path / ".incomplete-x").mkdir()
    (tmp_path / ".incomplete-x" / "weights").write_bytes(b"x")
    (tmp_path / "not-ours").mkdir()
    make_cache(tmp_path, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["not-ours"]


def test_two_servers_cannot_share_a_directory(tmp_path, make_cache):
    first = make_cache(tmp_path, 1000)
    with pytest.raises(ValueError, match=r"--cache-dir: .* is used by another server"):
        make_cache(tmp_path, 1000)
    first.close()
    assert source(make_cache(tmp_path, 1000), KEYS[0]) is FetchSource.STORE


@pytest.mark.parametrize("key", ["../../etc", "", "A" * 64, "a" * 63])
def test_only_a_digest_is_a_key(tmp_path, make_cache, key):
    with pytest.raises(ValueError, match="not an adapter key"):
        source(make_cache(tmp_path, 1000), key)
