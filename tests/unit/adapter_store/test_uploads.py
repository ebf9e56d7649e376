import threading

import google_crc32c
import numpy as np
import pytest

from services.adapter_store.domain.names import AdapterName
from services.adapter_store.domain.upload import UploadState
from services.adapter_store.domain.version import Lineage, VersionState
from services.adapter_store.uploads.intake import MAX_DATA_BYTES
from services.adapter_store.uploads.uploads import MAX_OPEN_UPLOADS
from services.common.errors import Code, Reason, ServiceError
from tests.adapter_files import BASE_MODEL, CONFIG, WEIGHTS, adapter_files, declared, layer, lora
from tests.unit.adapter_store.conftest import NAME, publish, send

FILES = adapter_files()
OTHER = AdapterName("acme", "other")


def start(store, files=FILES, name=NAME, request_id="", labels=None, lineage=None):
    upload, _ = store.uploads.start(name, declared(files), labels or {}, lineage or Lineage(), request_id)
    return upload


def refusal(call, *arguments):
    with pytest.raises(ServiceError) as caught:
        call(*arguments)
    return caught.value


def persisted(store, upload):
    return {p.path: p.persisted_bytes for p in store.uploads.get(upload.id)[1]}


def test_from_start_to_active(store):
    upload = start(store, labels={"a": "b"}, lineage=Lineage(run_id="7"))
    assert (upload.version, upload.state) == (1, UploadState.OPEN)
    assert store.versions.get(NAME, 1).state is VersionState.CREATING
    send(store, upload.id, FILES)
    version = store.uploads.finish(upload.id)
    assert version == store.versions.get(NAME, 1)
    assert (version.state, version.weights.rank, version.base_model) == (
        VersionState.ACTIVE,
        4,
        BASE_MODEL.name,
    )
    assert (version.labels, version.lineage.run_id) == ({"a": "b"}, "7")
    assert version.size_bytes == sum(map(len, FILES.values()))
    assert repr(store) == "Store(versions ACTIVE=1, uploads FINISHED=1)"


def test_finish_again_gives_the_same_version(store):
    version = publish(store)
    upload = start(store, request_id="r")
    assert store.uploads.finish(upload.id) == store.uploads.finish(upload.id)
    assert store.versions.get(NAME, 1) == version


def test_a_refusal_makes_the_version_failed_with_the_same_words(store):
    tensors = lora(layer(0, "self_attn.q_proj"))
    name = next(iter(tensors))
    tensors[name][0, 0] = np.nan
    files = adapter_files(tensors)
    upload = start(store, files)
    send(store, upload.id, files)
    first = refusal(store.uploads.finish, upload.id)
    again = refusal(store.uploads.finish, upload.id)
    assert (first.code, first.reason, first.field) == (Code.INVALID_ARGUMENT, Reason.INVALID_ADAPTER, name)
    assert repr(again) == repr(first)
    version = store.versions.get(NAME, 1)
    assert (version.state, version.status_message, version.weights) == (
        VersionState.FAILED,
        first.message,
        None,
    )
    assert refusal(store.versions.enable, NAME, 1).reason is Reason.VERSION_NOT_ACTIVE
    assert first.message in refusal(store.aliases.set, NAME, "x", 1, None, "").message
    assert publish(store).version == 2


def test_incomplete_uploads_cannot_finish(store):
    upload = start(store)
    error = refusal(store.uploads.finish, upload.id)
    assert (error.code, error.reason, error.field) == (
        Code.FAILED_PRECONDITION,
        Reason.UPLOAD_INCOMPLETE,
        CONFIG,
    )
    send(store, upload.id, {CONFIG: FILES[CONFIG]})
    target = store.intake.open_file(upload.id, WEIGHTS)
    store.intake.append(target, 0, FILES[WEIGHTS][:5], None)
    error = refusal(store.uploads.finish, upload.id)
    assert (error.field, error.metadata["persisted_bytes"]) == (WEIGHTS, "5")
    assert store.versions.get(NAME, 1).state is VersionState.CREATING
    store.intake.append(target, 5, FILES[WEIGHTS][5:], None)
    assert refusal(store.uploads.finish, upload.id).reason is Reason.UPLOAD_INCOMPLETE
    store.intake.finish_file(target)
    assert store.uploads.finish(upload.id).state is VersionState.ACTIVE


def test_resume_after_a_restart_at_any_point(store, open_a_store):
    upload = start(store)
    data = FILES[WEIGHTS]
    for offset in range(0, len(data), 100):
        store = open_a_store()
        assert persisted(store, upload) == {CONFIG: 0, WEIGHTS: offset}
        target = store.intake.open_file(upload.id, WEIGHTS)
        store.intake.append(target, offset, data[offset : offset + 100], None)
    store.intake.finish_file(target)
    store = open_a_store()
    assert persisted(store, upload) == {CONFIG: 0, WEIGHTS: len(data)}
    send(store, upload.id, {CONFIG: FILES[CONFIG]})
    store = open_a_store()
    assert store.check_integrity() == []
    assert store.uploads.finish(upload.id).state is VersionState.ACTIVE
    assert open_a_store().check_integrity() == []


def test_crash_between_blob_and_row_can_go_on(store, open_a_store, monkeypatch):
    upload = start(store)
    target = store.intake.open_file(upload.id, CONFIG)
    store.intake.append(target, 0, FILES[CONFIG], None)

    def power_cut():
        raise KeyboardInterrupt

    monkeypatch.setattr(store.intake._database, "write", power_cut)
    with pytest.raises(KeyboardInterrupt):
        store.intake.finish_file(target)
    monkeypatch.undo()
    store = open_a_store()
    assert persisted(store, upload)[CONFIG] == len(FILES[CONFIG])
    assert CONFIG not in store.uploads.get(upload.id)[0].stored
    store.intake.finish_file(store.intake.open_file(upload.id, CONFIG))
    send(store, upload.id, {WEIGHTS: FILES[WEIGHTS]})
    store.uploads.finish(upload.id)


def test_crash_between_row_and_staged_file_is_cleaned(store, open_a_store, monkeypatch):
    upload = start(store)
    monkeypatch.setattr(store.intake._staging, "discard_file", lambda *_: None)
    send(store, upload.id, {CONFIG: FILES[CONFIG]})
    assert any("staged" in problem for problem in store.check_integrity())
    store = open_a_store()
    assert store.check_integrity() == []
    send(store, upload.id, {WEIGHTS: FILES[WEIGHTS]})
    store.uploads.finish(upload.id)


def test_recover_makes_lost_staged_files_and_drops_orphans(store, open_a_store, tmp_path):
    upload = start(store)
    (tmp_path / "uploads" / upload.id / "0").unlink()
    (tmp_path / "uploads" / "orphan").mkdir()
    (tmp_path / "uploads" / "orphan" / "0").write_bytes(b"x")
    (tmp_path / "blobs" / "incoming" / "half").write_bytes(b"x")
    assert len(store.check_integrity()) == 3
    store = open_a_store()
    assert store.check_integrity() == []
    send(store, upload.id, FILES)
    store.uploads.finish(upload.id)


def test_chunks_are_checked(store):
    target = store.intake.open_file(start(store).id, WEIGHTS)
    data = FILES[WEIGHTS]
    assert store.intake.append(target, 0, data[:10], google_crc32c.value(data[:10])) == 10
    error = refusal(store.intake.append, target, 10, data[10:20], google_crc32c.value(data[10:20]) ^ 1)
    assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, Reason.CHECKSUM_MISMATCH)
    assert error.metadata == {"persisted_bytes": "10"}
    assert store.intake.persisted(target) == 10
    assert refusal(store.intake.append, target, -1, b"", None).field == "write_offset"
    assert refusal(store.intake.append, target, 10, b"x" * (MAX_DATA_BYTES + 1), None).field == "data"
    assert refusal(store.intake.append, target, 10, data, None).field == "data"
    assert refusal(store.intake.append, target, 11, b"", None).reason is Reason.WRONG_OFFSET
    assert store.intake.persisted(target) == 10


def test_wrong_bytes_are_dropped_and_can_be_sent_again(store):
    upload = start(store)
    target = store.intake.open_file(upload.id, CONFIG)
    store.intake.append(target, 0, b"x" * len(FILES[CONFIG]), None)
    error = refusal(store.intake.finish_file, target)
    assert (error.reason, error.field) == (Reason.CHECKSUM_MISMATCH, CONFIG)
    assert persisted(store, upload)[CONFIG] == 0
    send(store, upload.id, FILES)
    assert store.uploads.finish(upload.id).state is VersionState.ACTIVE


def test_finishing_a_file_again_is_fine(store):
    upload = start(store)
    send(store, upload.id, FILES)
    size = len(FILES[CONFIG])
    target = store.intake.open_file(upload.id, CONFIG)
    assert store.intake.append(target, size, b"", None) == size
    assert store.intake.finish_file(target) == size
    assert refusal(store.intake.append, target, 0, b"x", None).metadata == {"persisted_bytes": str(size)}
    assert refusal(store.intake.append, target, size, b"x", None).field == "data"


def test_what_the_tenant_has_stored_is_not_sent_again(store):
    publish(store)
    changed = adapter_files(lora_alpha=9)
    upload = start(store, changed)
    assert persisted(store, upload) == {CONFIG: 0, WEIGHTS: len(changed[WEIGHTS])}
    send(store, upload.id, {CONFIG: changed[CONFIG]})
    assert store.uploads.finish(upload.id).weights.alpha == 9


def test_what_another_tenant_has_stored_is_sent(store):
    publish(store)
    theirs = AdapterName("zoo", "support")
    store.adapters.create(theirs, BASE_MODEL.name, "", "", {})
    upload = start(store, name=theirs)
    assert set(persisted(store, upload).values()) == {0}
    assert refusal(store.uploads.finish, upload.id).reason is Reason.UPLOAD_INCOMPLETE
    send(store, upload.id, FILES)
    assert store.uploads.finish(upload.id).key == store.versions.get(NAME, 1).key


def test_a_damaged_blob_is_sent_again_and_so_repaired(store, open_a_store, tmp_path):
    version = publish(store)
    digest = version.files[1].sha256
    (tmp_path / "blobs" / digest[:2] / digest[2:4] / digest).write_bytes(b"damaged")
    store = open_a_store()
    assert any(WEIGHTS in problem for problem in store.check_integrity())
    upload = start(store)
    assert persisted(store, upload)[WEIGHTS] == 0
    send(store, upload.id, {WEIGHTS: FILES[WEIGHTS]})
    store.uploads.finish(upload.id)
    assert store.check_integrity() == []


def test_damage_between_upload_and_finish_is_seen(store, open_a_store, tmp_path):
    upload = start(store)
    send(store, upload.id, FILES)
    digest = upload.files[1].sha256
    path = tmp_path / "blobs" / digest[:2] / digest[2:4] / digest
    path.write_bytes(b"damaged")
    error = refusal(open_a_store().uploads.finish, upload.id)
    assert (error.code, error.reason) == (Code.DATA_LOSS, Reason.CORRUPT_BLOB)
    path.write_bytes(FILES[WEIGHTS])
    assert store.uploads.finish(upload.id).state is VersionState.ACTIVE


def test_request_ids(store):
    first = start(store, request_id="r1")
    assert start(store, request_id="r1") == first
    assert start(store, request_id="r2").version == 2
    for changes in ({"files": adapter_files(r=8)}, {"labels": {"a": "b"}}, {"lineage": Lineage(run_id="x")}):
        error = refusal(lambda changes=changes: start(store, request_id="r1", **changes))
        assert (error.code, error.field) == (Code.INVALID_ARGUMENT, "request_id")
    store.adapters.create(OTHER, BASE_MODEL.name, "", "", {})
    assert start(store, name=OTHER, request_id="r1").version == 1
    send(store, first.id, FILES)
    store.uploads.finish(first.id)
    assert start(store, request_id="r1").state is UploadState.FINISHED
    assert refusal(lambda: start(store, request_id="x" * 129)).field == "request_id"


def test_a_request_of_what_was_deleted_gives_no_version(store):
    upload = start(store, request_id="r")
    send(store, upload.id, FILES)
    store.uploads.finish(upload.id)
    store.deletions.delete_version(NAME, 1)
    again = start(store, request_id="r")
    assert again.id == upload.id
    error = refusal(store.uploads.finish, again.id)
    assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, Reason.VERSION_NOT_ACTIVE)


def test_a_request_to_an_adapter_that_was_made_again_is_a_new_one(store):
    upload = start(store, request_id="r")
    send(store, upload.id, FILES)
    store.uploads.finish(upload.id)
    store.deletions.delete_adapter(NAME, "")
    store.adapters.create(NAME, BASE_MODEL.name, "", "", {})
    again = start(store, request_id="r")
    assert (again.version, again.state) == (2, UploadState.OPEN)


def test_many_starts_at_once_get_each_number_once(store):
    versions, same = [], []
    threads = [threading.Thread(target=lambda: versions.append(start(store).version)) for _ in range(6)]
    threads += [
        threading.Thread(target=lambda: same.append(start(store, request_id="r").id)) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(same)) == 1
    assert len({*versions}) == 6
    assert len(store.versions.list(NAME, 0, "").rows) == 7


def test_many_finishes_at_once_make_one_version(store):
    upload = start(store)
    send(store, upload.id, FILES)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(store.uploads.finish(upload.id))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [store.versions.get(NAME, 1)] * 6


def test_many_finishers_of_one_file(store):
    upload = start(store)
    target = store.intake.open_file(upload.id, WEIGHTS)
    store.intake.append(target, 0, FILES[WEIGHTS], None)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(store.intake.finish_file(target))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [len(FILES[WEIGHTS])] * 6
    assert store.check_integrity() == []


def test_abort(store):
    upload = start(store)
    target = store.intake.open_file(upload.id, WEIGHTS)
    store.uploads.abort(upload.id)
    store.uploads.abort(upload.id)
    version = store.versions.get(NAME, 1)
    assert (version.state, version.status_message) == (
        VersionState.FAILED,
        "the upload was given up by its client",
    )
    for call in (
        lambda: store.intake.append(target, 0, b"x", None),
        lambda: store.intake.finish_file(target),
        lambda: store.intake.open_file(upload.id, WEIGHTS),
        lambda: store.uploads.finish(upload.id),
        lambda: store.uploads.get(upload.id),
    ):
        error = refusal(call)
        assert (error.code, error.reason) == (Code.NOT_FOUND, Reason.UPLOAD_NOT_FOUND)
        assert "given up" in error.message


def test_ended_and_unknown_uploads(store):
    upload = start(store)
    send(store, upload.id, FILES)
    store.uploads.finish(upload.id)
    assert "finished" in refusal(store.uploads.abort, upload.id).message
    target = store.intake.open_file(upload.id, WEIGHTS)
    assert store.intake.append(target, len(FILES[WEIGHTS]), b"", None) == store.intake.finish_file(target)
    assert refusal(store.intake.append, target, 0, b"x", None).reason is Reason.WRONG_OFFSET
    assert persisted(store, upload) == {path: len(data) for path, data in FILES.items()}
    for call in (store.uploads.get, store.uploads.abort, store.uploads.finish):
        assert refusal(call, "nobody\n").reason is Reason.UPLOAD_NOT_FOUND
        assert refusal(call, "no\0body").reason is Reason.UPLOAD_NOT_FOUND
    assert store.uploads.tenant_of("no\0body") is None
    assert refusal(store.intake.open_file, start(store).id, "other.json").reason is Reason.FILE_NOT_FOUND


def test_open_uploads_are_bounded(store):
    uploads = [start(store) for _ in range(MAX_OPEN_UPLOADS)]
    error = refusal(lambda: start(store))
    assert (error.code, error.reason) == (Code.RESOURCE_EXHAUSTED, Reason.QUOTA_EXCEEDED)
    assert error.retry_after_s
    assert uploads[0].id in error.message
    store.uploads.abort(uploads[0].id)
    assert start(store).version == MAX_OPEN_UPLOADS + 1


def test_bad_starts_reserve_nothing(store):
    for call in (
        lambda: start(store, {CONFIG: b"{}"}),
        lambda: start(store, FILES | {"x.bin": b""}),
        lambda: start(store, FILES | {"big.json": b"x" * (1 << 20)}),
        lambda: start(store, labels={"": ""}),
        lambda: start(store, lineage=Lineage(notes="x" * 5000)),
        lambda: start(store, name=OTHER),
    ):
        refusal(call)
    assert store.versions.list(NAME, 0, "").rows == ()
    assert start(store).version == 1


def test_empty_files_are_fine(store):
    files = FILES | {"README.md": b""}
    upload = start(store, files)
    send(store, upload.id, files)
    assert store.uploads.finish(upload.id).state is VersionState.ACTIVE
