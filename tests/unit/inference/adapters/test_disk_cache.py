import hashlib
import os
import shutil

import pytest

from services.inference.adapters.disk_cache import DiskCache
from services.inference.adapters.io_orders import FetchSource
from services.inference.request import AdapterFile

DATA = {"config": b"{}", "weights": bytes(range(98))}
FILES = [AdapterFile(path, len(data), hashlib.sha256(data).hexdigest()) for path, data in DATA.items()]
KEYS = [hashlib.sha256(bytes([i])).hexdigest() for i in range(4)]


def fill(file, to):
    to.write_bytes(DATA[file.path])


def source(cache, key, fill=fill):
    with cache.open(key, FILES, fill) as (directory, found):
        assert {path.name: path.read_bytes() for path in directory.iterdir()} == DATA
        return found


def test_filled_once_and_found_again_after_a_restart(tmp_path):
    assert source(DiskCache(tmp_path / "new" / "cache", 1000), KEYS[0]) is FetchSource.STORE
    again = DiskCache(tmp_path / "new" / "cache", 1000)
    assert again.held_bytes == 100
    assert source(again, KEYS[0]) is FetchSource.DISK


@pytest.mark.parametrize("damage", ["flipped", "short", "missing", "fifo", "endless", "directory is a file"])
def test_a_damaged_file_is_fetched_again(tmp_path, damage):
    cache = DiskCache(tmp_path, 1000)
    source(cache, KEYS[0])
    path = tmp_path / KEYS[0] / "weights"
    if damage == "flipped":
        path.write_bytes(b"\xff" + DATA["weights"][1:])
    elif damage == "short":
        path.write_bytes(DATA["weights"][:-1])
    elif damage == "directory is a file":
        shutil.rmtree(path.parent)
        path.parent.touch()
    else:
        path.unlink()
    if damage == "fifo":
        os.mkfifo(path)
    elif damage == "endless":
        path.symlink_to("/dev/zero")
    assert source(cache, KEYS[0]) is FetchSource.STORE
    assert source(cache, KEYS[0]) is FetchSource.DISK


def test_least_recently_used_go_first_and_those_in_use_stay(tmp_path):
    cache = DiskCache(tmp_path, 250)
    for key in KEYS[:2]:
        source(cache, key)
    source(cache, KEYS[0])
    with cache.open(KEYS[2], FILES, fill), cache.open(KEYS[3], FILES, fill):
        pass
    assert {path.name for path in tmp_path.iterdir()} == set(KEYS[2:])
    with cache.open(KEYS[2], FILES, fill) as (held, _):
        source(cache, KEYS[0])
        assert held.is_dir()
    assert {path.name for path in tmp_path.iterdir()} == {KEYS[0], KEYS[2]}
    assert cache.held_bytes == 200


def test_a_smaller_cache_is_trimmed_at_the_start(tmp_path):
    cache = DiskCache(tmp_path, 1000)
    for key in KEYS:
        source(cache, key)
    assert DiskCache(tmp_path, 100).held_bytes == 100


def test_a_fill_that_fails_leaves_nothing(tmp_path):
    def failing(file, to):
        fill(file, to)
        if file.path == "weights":
            raise OSError("no space")

    cache = DiskCache(tmp_path, 1000)
    with pytest.raises(OSError, match="no space"):
        source(cache, KEYS[0], failing)
    assert list(tmp_path.iterdir()) == []
    assert source(cache, KEYS[0]) is FetchSource.STORE


def test_what_a_killed_process_left_half_done_is_removed(tmp_path):
    (tmp_path / ".incomplete-x").mkdir()
    (tmp_path / ".incomplete-x" / "weights").write_bytes(b"x")
    (tmp_path / "not-ours").mkdir()
    DiskCache(tmp_path, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["not-ours"]


@pytest.mark.parametrize("key", ["../../etc", "", "A" * 64, "a" * 63])
def test_only_a_digest_is_a_key(tmp_path, key):
    with pytest.raises(ValueError, match="not an adapter key"):
        source(DiskCache(tmp_path, 1000), key)
