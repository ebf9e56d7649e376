import contextlib
import errno
import os
import threading
from io import FileIO

import pytest

from services.adapter_store.blobs import LocalBlobs
from services.adapter_store.domain.version import VersionFile
from services.adapter_store.staging import LocalStaging, local_staging
from services.common.errors import Code, Reason, ServiceError
from tests.adapter_files import sha256

DATA = b"0123456789"
FILE = VersionFile("x.json", len(DATA), sha256(DATA))


@pytest.fixture
def staging(tmp_path):
    staging = LocalStaging(tmp_path / "uploads", LocalBlobs(tmp_path / "blobs"))
    staging.create("u", [0, 1])
    return staging


def test_appends_at_the_end_only(staging):
    assert staging.append("u", 0, FILE, 0, DATA[:4]) == 4
    assert staging.persisted_bytes("u", 0) == 4
    for offset in (0, 3, 5):
        with pytest.raises(ServiceError) as caught:
            staging.append("u", 0, FILE, offset, b"x")
        assert (caught.value.code, caught.value.reason) == (Code.OUT_OF_RANGE, Reason.WRONG_OFFSET)
        assert caught.value.metadata == {"persisted_bytes": "4"}
    assert staging.append("u", 0, FILE, 4, DATA[4:]) == 10
    with staging.whole("u", 0, FILE) as path:
        assert path.read_bytes() == DATA


def test_more_than_declared_is_refused_whole(staging):
    staging.append("u", 0, FILE, 0, DATA[:9])
    with pytest.raises(ServiceError) as caught:
        staging.append("u", 0, FILE, 9, b"9x")
    assert caught.value.field == "data"
    assert staging.persisted_bytes("u", 0) == 9


def test_not_whole_yet(staging):
    staging.append("u", 0, FILE, 0, DATA[:9])
    with pytest.raises(ServiceError) as caught, staging.whole("u", 0, FILE):
        pass
    assert caught.value.reason is Reason.UPLOAD_INCOMPLETE
    assert caught.value.metadata["persisted_bytes"] == "9"


def test_wrong_bytes_are_dropped(staging):
    staging.append("u", 0, FILE, 0, b"x" * 10)
    with pytest.raises(ServiceError) as caught, staging.whole("u", 0, FILE):
        pass
    assert (caught.value.code, caught.value.reason) == (Code.INVALID_ARGUMENT, Reason.CHECKSUM_MISMATCH)
    assert staging.persisted_bytes("u", 0) == 0


def test_what_is_not_staged(staging):
    for call in (
        lambda: staging.append("u", 7, FILE, 0, b""),
        lambda: staging.append("v", 0, FILE, 0, b""),
        lambda: staging.persisted_bytes("v", 0),
    ):
        with pytest.raises(FileNotFoundError):
            call()


def test_create_keeps_what_is_there_and_discard_does_not(staging):
    staging.append("u", 1, FILE, 0, b"012")
    staging.create("u", [0, 1, 2])
    assert staging.positions("u") == {0: 0, 1: 3, 2: 0}
    staging.discard_file("u", 1)
    staging.discard_file("u", 1)
    assert staging.positions("u") == {0: 0, 2: 0}
    staging.discard("u")
    staging.discard("u")
    assert staging.upload_ids() == []
    assert staging.positions("u") == {}


def test_a_file_that_was_stored_is_news_and_one_that_goes_just_now_is_no_failure(staging, tmp_path):
    directory = tmp_path / "uploads" / "u"
    (directory / "2").symlink_to("stored-just-now")
    for path in (directory / "0", directory / "1", directory):
        os.utime(path, (0, 0))
    assert staging.last_append("u").timestamp() == 0
    staging.discard_file("u", 0)
    assert staging.last_append("u").timestamp() > 0
    assert staging.last_append("nothing staged").timestamp() == 0


def test_many_writers_never_mix_bytes(staging):
    size = 64 * 97
    file = VersionFile("x", size, "")
    wins = []

    def write(writer):
        for step in range(64):
            with contextlib.suppress(ServiceError):
                staging.append("u", 0, file, step * 97, bytes([writer]) * 97)
                wins.append((step, writer))

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    by_step = dict(wins)
    assert len(by_step) == len(wins), "two writers stored the same offset"
    assert staging.persisted_bytes("u", 0) == len(wins) * 97
    with staging._locked("u", 0) as staged:
        assert staged.read() == b"".join(bytes([by_step[step]]) * 97 for step in range(len(wins)))


def test_a_full_disk_says_so_and_keeps_a_prefix(staging, monkeypatch):
    class FullAfterThree(FileIO):
        def write(self, data):
            if self.tell() >= 3 or self.seek(0, 2) >= 3:
                raise OSError(errno.ENOSPC, "no space left on device")
            return super().write(bytes(data)[:3])

    monkeypatch.setattr(local_staging, "open", lambda fd, *_, **__: FullAfterThree(fd, "r+"), raising=False)
    with pytest.raises(ServiceError) as caught:
        staging.append("u", 0, FILE, 0, DATA)
    assert (caught.value.code, caught.value.reason) == (Code.RESOURCE_EXHAUSTED, Reason.QUOTA_EXCEEDED)
    monkeypatch.undo()
    assert staging.persisted_bytes("u", 0) == 3
    assert staging.append("u", 0, FILE, 3, DATA[3:]) == 10
    with staging.whole("u", 0, FILE):
        pass
