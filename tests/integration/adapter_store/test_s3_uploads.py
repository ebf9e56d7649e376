import pytest

from services.adapter_store.domain.upload import UploadState
from services.adapter_store.domain.version import Lineage, VersionState
from services.common.errors import Code, Reason, ServiceError
from tests.adapter_files import BASE_MODEL, CONFIG, declared, large_adapter_files
from tests.s3_server import BUCKET
from tests.s3_stores import PART_BYTES, far_future, open_bucket, open_replica  # noqa: F401
from tests.unit.adapter_store.conftest import NAME

FILES = large_adapter_files(300_000, seed=3)
BIG = "README.md"
DATA = FILES[BIG]
CHUNK = 50_000


@pytest.fixture
def first(open_replica):  # noqa: F811
    store, _, _ = open_replica()
    store.base_models.register(BASE_MODEL)
    store.adapters.create(NAME, BASE_MODEL.name, "", "", {})
    return store


def start(store, files=FILES, request_id=""):
    return store.uploads.start(NAME, declared(files), {}, Lineage(), request_id)[0]


def send(store, upload, path, data, begin=0, end=None, finish=True):
    """What one stream does; the bytes that are durable after it."""
    target = store.intake.open_file(upload.id, path)
    end = len(data) if end is None else end
    try:
        for offset in range(begin, end, CHUNK):
            store.intake.append(target, offset, data[offset : min(offset + CHUNK, end)], None)
        return store.intake.finish_file(target) if finish else store.intake.persisted(target)
    finally:
        store.intake.leave(target)


def send_rest(store, upload):
    for path in FILES.keys() - {BIG}:
        send(store, upload, path, FILES[path])


def persisted(store, upload, path=BIG):
    return {p.path: p.persisted_bytes for p in store.uploads.get(upload.id)[1]}[path]


def stored_bytes(blobs, sha256, size_bytes):
    return b"".join(blobs.chunks(sha256, 0, size_bytes))


def keys(url):
    bucket, prefix = open_bucket(url)
    return [found.key.removeprefix(prefix) for found in bucket.list(prefix)]


def test_from_start_to_active_leaves_the_blobs_alone(first, s3_url):
    upload = start(first)
    for path, data in FILES.items():
        assert send(first, upload, path, data) == len(data)
    version = first.uploads.finish(upload.id)
    assert version.state is VersionState.ACTIVE
    assert sorted(keys(s3_url)) == sorted(
        f"blobs/{file.sha256[:2]}/{file.sha256[2:4]}/{file.sha256}" for file in version.files
    )
    assert stored_bytes(first.blobs, version.files[2].sha256, len(DATA)) == DATA
    assert first.check_integrity() == []
    again = start(first)
    assert (persisted(first, again, CONFIG), persisted(first, again)) == (len(FILES[CONFIG]), len(DATA))


def test_each_stream_at_another_replica_with_ends_at_any_byte(first, open_replica, s3_url):  # noqa: F811
    upload = start(first)
    ends = [1, 64, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES, 3 * PART_BYTES + 70, len(DATA)]
    begin = 0
    for end in ends:
        store, _, _ = open_replica()
        assert persisted(store, upload) == begin
        assert send(store, upload, BIG, DATA, begin, end, finish=False) == end
        begin = end
    store, _, _ = open_replica()
    target = store.intake.open_file(upload.id, BIG)
    store.intake.finish_file(target)
    send_rest(store, upload)
    assert store.uploads.finish(upload.id).state is VersionState.ACTIVE
    assert stored_bytes(store.blobs, upload.files[2].sha256, len(DATA)) == DATA
    assert not [key for key in keys(s3_url) if key.startswith("staging/")]
    assert store.check_integrity() == []


def test_a_process_that_dies_loses_no_whole_part(first, open_replica):  # noqa: F811
    upload = start(first)
    target = first.intake.open_file(upload.id, BIG)
    for offset in range(0, 250_000, CHUNK):
        first.intake.append(target, offset, DATA[offset : offset + CHUNK], None)
    second, _, _ = open_replica()
    begin = persisted(second, upload)
    assert begin >= PART_BYTES
    assert begin % PART_BYTES == 0
    send(second, upload, BIG, DATA, begin)
    send_rest(second, upload)
    assert second.uploads.finish(upload.id).state is VersionState.ACTIVE
    # The one that was believed dead has nothing more to say.
    assert first.intake.finish_file(target) == len(DATA)
    assert stored_bytes(second.blobs, upload.files[2].sha256, len(DATA)) == DATA


def test_of_two_streams_into_one_file_one_goes_on(first, open_replica):  # noqa: F811
    upload = start(first)
    second, _, _ = open_replica()
    slow, fast = (store.intake.open_file(upload.id, BIG) for store in (first, second))
    first.intake.append(slow, 0, DATA[:1000], None)
    second.intake.append(fast, 0, DATA[:2000], None)
    assert second.intake.persisted(fast) == 2000
    with pytest.raises(ServiceError) as caught:
        first.intake.persisted(slow)
    assert (caught.value.reason, caught.value.metadata) == (
        Reason.WRONG_OFFSET,
        {"persisted_bytes": "2000"},
    )
    first.intake.leave(slow)
    send(second, upload, BIG, DATA, 2000)
    assert persisted(first, upload) == len(DATA)


@pytest.mark.parametrize("path", [CONFIG, BIG])
def test_wrong_bytes_never_become_a_blob(first, s3_url, path):
    upload = start(first)
    data = FILES[path]
    wrong = data[:-1] + bytes([data[-1] ^ 1])
    with pytest.raises(ServiceError) as caught:
        send(first, upload, path, wrong)
    assert (caught.value.code, caught.value.reason) == (Code.INVALID_ARGUMENT, Reason.CHECKSUM_MISMATCH)
    assert keys(s3_url) == []
    assert persisted(first, upload, path) == 0
    assert send(first, upload, path, data) == len(data)


def test_a_damaged_tail_is_sent_again(first, open_replica, s3_server, s3_prefix):  # noqa: F811
    upload = start(first)
    end = PART_BYTES + 1000
    send(first, upload, BIG, DATA, 0, end, finish=False)
    client = s3_server.client()
    (tail,) = client.list_objects(BUCKET, prefix=f"{s3_prefix}/staging/", recursive=True)
    client.remove_object(BUCKET, tail.object_name)
    second, _, _ = open_replica()
    with pytest.raises(ServiceError) as caught:
        send(second, upload, BIG, DATA, end)
    assert caught.value.metadata == {"persisted_bytes": str(PART_BYTES)}
    send(second, upload, BIG, DATA, PART_BYTES)


def test_parts_that_the_server_lost_send_the_client_back_to_the_start(first, s3_url):
    upload = start(first)
    send(first, upload, BIG, DATA, 0, 3 * PART_BYTES, finish=False)
    bucket, prefix = open_bucket(s3_url)
    for key, multipart_id, _ in bucket.multiparts(f"{prefix}blobs/"):
        bucket.abort_multipart(key, multipart_id)
    with pytest.raises(ServiceError) as caught:
        send(first, upload, BIG, DATA, 3 * PART_BYTES)
    assert caught.value.metadata == {"persisted_bytes": "0"}
    assert persisted(first, upload) == 0
    assert send(first, upload, BIG, DATA) == len(DATA)


def test_what_is_given_up_is_dropped_and_what_nobody_knows_is_swept(first, open_replica, s3_url):  # noqa: F811
    upload = start(first)
    send(first, upload, BIG, DATA, 0, PART_BYTES + 10, finish=False)
    bucket, prefix = open_bucket(s3_url)
    assert len([*bucket.multiparts(f"{prefix}blobs/")]) == 1
    bucket.start_multipart(first.blobs.key("0" * 64))
    bucket.put(f"{prefix}staging/nobody/0/{'1' * 64}", b"x")
    bucket.put(f"{prefix}staging/odd", b"x")
    _, _, staging = open_replica()
    staging.sweep(far_future())
    assert persisted(first, upload) == PART_BYTES + 10
    assert len([*bucket.multiparts(f"{prefix}blobs/")]) == 1
    assert len(keys(s3_url)) == 1
    first.uploads.abort(upload.id)
    assert [*bucket.multiparts(f"{prefix}blobs/")] == []
    assert keys(s3_url) == []
    assert first.check_integrity() == []


def test_a_damaged_object_is_found_before_it_is_read(first, open_replica, s3_url):  # noqa: F811
    upload = start(first)
    for path, data in FILES.items():
        send(first, upload, path, data)
    version = first.uploads.finish(upload.id)
    sha256 = version.files[2].sha256
    bucket, _ = open_bucket(s3_url)
    bucket.put(first.blobs.key(sha256), DATA[:1000] + bytes([DATA[1000] ^ 1]) + DATA[1001:])
    for store in (first, open_replica()[0]):
        assert not store.blobs.is_intact(sha256, len(DATA))
        with pytest.raises(ServiceError) as caught:
            store.blobs.open(sha256)
        assert (caught.value.code, caught.value.reason) == (Code.DATA_LOSS, Reason.CORRUPT_BLOB)
    assert len(first.check_integrity()) == 2
    again = start(first)
    assert persisted(first, again) == 0
    send(first, again, BIG, DATA)
    assert first.blobs.is_intact(sha256, len(DATA))


def test_storage_that_does_not_answer_is_unavailable(first, open_replica, monkeypatch):  # noqa: F811
    _, blobs, _ = open_replica()
    monkeypatch.setattr(blobs._bucket._client._base_url, "_url", _nobody_listens(blobs))
    with pytest.raises(ServiceError) as caught:
        blobs.is_intact("0" * 64, 1)
    assert (caught.value.code, caught.value.reason) == (Code.UNAVAILABLE, Reason.STORE_UNAVAILABLE)
    assert caught.value.retry_after_s is not None


def _nobody_listens(blobs):
    return blobs._bucket._client._base_url._url._replace(netloc="127.0.0.1:1")


def test_an_upload_that_sends_nothing_takes_no_room(first, s3_url):
    upload = start(first)
    assert upload.state is UploadState.OPEN
    assert keys(s3_url) == []
    assert [*open_bucket(s3_url)[0].multiparts(first.blobs.prefix)] == []
