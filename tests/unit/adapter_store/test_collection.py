import contextlib
import os
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from services.adapter_store.domain.blob import StoredBlob
from services.adapter_store.domain.garbage import Garbage
from services.adapter_store.domain.names import Reference
from services.adapter_store.domain.version import Lineage, VersionState
from services.adapter_store.garbage.collection import _pages
from services.common.caller import Role
from services.common.errors import Reason, ServiceError
from tests.adapter_files import BASE_MODEL, WEIGHTS, adapter_files, declared, layer, lora, sha256
from tests.unit.adapter_store.conftest import NAME, publish, send

LATER = datetime(2031, 1, 1, tzinfo=UTC)


def files_of(seed):
    return adapter_files(lora(layer(0, "self_attn.q_proj"), seed=seed))


def given_up(store, files):
    upload, persisted = store.uploads.start(NAME, declared(files), {}, Lineage(), "")
    send(store, upload.id, {p.path: files[p.path] for p in persisted if p.path not in upload.stored})
    store.uploads.abort(upload.id)


def there(store):
    return {blob.sha256 for blob in store.blobs.entries()}


def orphan(store, tmp_path, data, age_s=0.0):
    """A blob that no row knows, written `age_s` before the store's clock started."""
    path = tmp_path / "orphan"
    path.write_bytes(data)
    written_s = (datetime(2030, 1, 1, tzinfo=UTC) - timedelta(seconds=age_s)).timestamp()
    os.utime(path, (written_s, written_s))
    store.blobs.put(path, sha256(data))
    path.unlink()
    return sha256(data)


def test_what_no_version_refers_to_is_freed_and_the_rest_stays(store):
    version = publish(store, files_of(1))
    garbage_files = files_of(2)
    given_up(store, garbage_files)
    found = store.garbage.collect(False, 0)
    assert found == Garbage(freed_blobs=1, freed_bytes=len(garbage_files[WEIGHTS]))
    assert there(store) == {file.sha256 for file in version.files}
    assert store.garbage.collect(False, 0) == Garbage()


def test_a_dry_run_says_the_same_and_frees_nothing(store):
    given_up(store, files_of(2))
    before = there(store)
    dry = store.garbage.collect(True, 0)
    assert there(store) == before
    assert dry.freed_blobs == 2
    assert store.garbage.collect(False, 0) == dry


def test_what_is_young_stays(store):
    given_up(store, files_of(2))
    assert store.garbage.collect(False) == Garbage()
    assert len(there(store)) == 2


def test_a_lease_keeps_what_its_version_no_longer_does(open_a_store):
    store = open_a_store()
    store.base_models.register(BASE_MODEL)
    store.adapters.create(NAME, BASE_MODEL.name, "", "", {})
    version = publish(store, files_of(1))
    store.leases.acquire("serve-1", "", [version.key], 3600)
    given_up(store, files_of(2))
    with store._database.write() as uow:
        adapter = uow.adapters.get(NAME)
        assert uow.versions.move_state(adapter.id, 1, VersionState.ACTIVE, VersionState.FAILED)
        uow.commit()
    assert store.garbage.collect(False, 0).freed_blobs == 1
    assert there(store) == {file.sha256 for file in version.files}
    store.leases.release("serve-1")
    assert store.garbage.collect(False, 0).freed_blobs == 2
    assert there(store) == set()


def test_whoever_resolved_a_version_has_a_minute_to_lease_it(open_a_store):
    start = datetime(2030, 1, 1, tzinfo=UTC)
    after_s = 0
    store = open_a_store(lambda connection: start + timedelta(seconds=after_s))
    store.base_models.register(BASE_MODEL)
    store.adapters.create(NAME, BASE_MODEL.name, "", "", {})
    for seed in (1, 2):
        publish(store, files_of(seed))
    first, second = (store.versions.resolve(Reference(NAME, version=n)).version for n in (1, 2))
    store.deletions.delete_version(NAME, 1)
    after_s = 30
    store.deletions.delete_adapter(NAME, "")
    after_s = 59
    assert store.garbage.collect(True, 0) == store.garbage.collect(False, 0) == Garbage()
    store.leases.acquire("serve-1", "", [first.key], 60)
    after_s = 61
    assert store.garbage.collect(False, 0) == Garbage(), "one by its lease, one by its minute"
    after_s = 90
    only_second = {file.sha256 for file in second.files} - {file.sha256 for file in first.files}
    assert store.garbage.collect(False, 0).freed_blobs == len(only_second) == 1
    assert there(store) == {file.sha256 for file in first.files}
    store.leases.release("serve-1")
    store.garbage.collect(False, 0)
    assert there(store) == set()


def test_what_is_kept_of_a_deleted_version_can_be_read_by_its_name(open_a_store):
    after_s = 0
    store = open_a_store(lambda connection: LATER + timedelta(seconds=after_s))
    store.base_models.register(BASE_MODEL)
    store.adapters.create(NAME, BASE_MODEL.name, "", "", {})
    keys = [publish(store, files_of(seed)).key for seed in (1, 2)]
    store.uploads.start(NAME, declared(files_of(3)), {}, Lineage(), "")  # never whole
    store.deletions.delete_version(NAME, 1)
    store.deletions.delete_version(NAME, 3)

    def readable():
        found = set()
        for number in (1, 2, 3):
            with contextlib.suppress(ServiceError):
                store.versions.readable_file(Reference(NAME, version=number), WEIGHTS)
                found.add(number)
        return found

    assert readable() == {1, 2}
    after_s = 30
    store.deletions.delete_adapter(NAME, "")
    assert readable() == {1, 2}
    store.leases.acquire("serve-1", "", [keys[0]], 60)
    after_s = 61
    assert readable() == {1, 2}, "one by its lease, one by its minute"
    after_s = 90
    assert readable() == set()
    with pytest.raises(ServiceError) as caught:
        store.versions.readable_file(Reference(NAME, version=1), WEIGHTS)
    assert caught.value.reason is Reason.ADAPTER_NOT_FOUND
    store.leases.acquire("serve-1", "", keys, 60)
    assert readable() == {1, 2}


def test_a_replica_whose_clock_is_ahead_frees_no_leased_bytes(store, open_a_store):
    version = publish(store, files_of(1))
    store.leases.acquire("serve-1", "", [version.key], 60)
    store.deletions.delete_version(NAME, 1)
    other = open_a_store(deleted_grace=timedelta(0))
    other.garbage._now = lambda: LATER
    other.garbage.collect(False, 0)
    assert there(store) == {file.sha256 for file in version.files}


def test_a_blob_that_no_row_knows_is_an_orphan_once_it_is_old(store, tmp_path):
    young = orphan(store, tmp_path, b"young")
    old = orphan(store, tmp_path, b"old old", age_s=3600)
    assert store.garbage.collect(False, 1800) == Garbage(freed_blobs=1, freed_bytes=7, orphaned_blobs=1)
    assert there(store) == {young}
    assert old not in there(store)


def test_a_blob_that_no_row_knows_stays_if_an_upload_is_about_to_store_it(store, tmp_path):
    files = files_of(1)
    upload, _ = store.uploads.start(NAME, declared(files), {}, Lineage(), "")
    orphan(store, tmp_path, files[WEIGHTS], age_s=3600)
    assert store.garbage.collect(False, 0) == Garbage()
    send(store, upload.id, files)
    store.uploads.finish(upload.id)


def test_damage_is_told_and_left_to_be_repaired(store):
    file = publish(store, files_of(1)).files[0]
    store.blobs.delete(file.sha256)
    for dry_run in (True, False):
        assert store.garbage.collect(dry_run, 0) == Garbage(missing_sha256s=(file.sha256,))
    given_up(store, files_of(1))
    assert store.garbage.collect(False, 0) == Garbage()


def test_idle_uploads_are_given_up_and_their_bytes_go(store, open_a_store, tmp_path):
    files = files_of(1)
    upload, _ = store.uploads.start(NAME, declared(files), {}, Lineage(), "")
    send(store, upload.id, {WEIGHTS: files[WEIGHTS]})
    assert store.garbage.collect(True, 0) == Garbage()
    store.idle_uploads._now = store.garbage._now = lambda: LATER
    staged = tmp_path / "uploads" / upload.id
    for path in (staged, *staged.iterdir()):
        os.utime(path, (0, 0))
    dry = store.garbage.collect(True, 0)
    assert (dry.expired_uploads, dry.freed_blobs) == (1, 0)
    done = store.garbage.collect(False, 0)
    assert (done.expired_uploads, done.freed_blobs) == (1, 1)
    failed = store.versions.get(NAME, 1)
    assert (failed.state, "a day" in failed.status_message) == (VersionState.FAILED, True)
    with pytest.raises(ServiceError) as caught:
        store.uploads.finish(upload.id)
    assert caught.value.reason is Reason.UPLOAD_NOT_FOUND


def test_a_deletion_that_was_cut_off_is_finished_by_the_next_collection(store):
    files = files_of(2)
    given_up(store, files)
    with store._database.write() as uow:
        assert uow.blobs.condemn(sha256(files[WEIGHTS]), LATER, LATER)
        uow.commit()
    store.garbage.collect(False)
    assert there(store) == {sha256(files["adapter_config.json"])}
    store.garbage.collect(False, 0)


def test_it_ends_early_when_the_store_stops(store):
    given_up(store, files_of(2))
    assert store.garbage.collect(False, 0, is_stopping=lambda: True) == Garbage()
    assert len(there(store)) == 2


def test_an_age_out_of_range_is_refused(store):
    with pytest.raises(ServiceError) as caught:
        store.garbage.collect(False, -1)
    assert caught.value.field == "min_age_s"


@pytest.mark.parametrize("count", [0, 1, 499, 500, 501, 1000])
def test_pages_cover_every_digest_once(count):
    blobs = [StoredBlob(f"{number:064x}", 1, LATER) for number in range(1, count + 1)]
    pages = list(_pages(iter(blobs)))
    assert [blob for _, page, _ in pages for blob in page] == blobs
    assert pages[0][0] == ""
    assert pages[-1][2] is None
    for (_, page, last), (after, _, _) in pairwise(pages):
        assert last == after == page[-1].sha256


def test_tokens_that_ended_long_ago_are_forgotten_and_others_stay(store):
    start = datetime(2030, 1, 1, tzinfo=UTC)
    for description, ttl_s in (("short", 60), ("long", 400 * 86400), ("endless", 0)):
        store.tokens.create(NAME.tenant, Role.READER, description, ttl_s)

    def known():
        return {token.description for token in store.tokens.list(NAME.tenant, 0, "").rows}

    store.garbage._now = lambda: start + timedelta(days=89)
    store.garbage.collect(False)
    assert known() == {"short", "long", "endless"}
    store.garbage._now = lambda: start + timedelta(days=92)
    store.garbage.collect(True)
    assert known() == {"short", "long", "endless"}
    store.garbage.collect(False)
    assert known() == {"long", "endless"}


def test_a_chore_that_fails_keeps_nothing_from_being_freed(store, caplog):
    given_up(store, files_of(2))
    done = []

    def fail():
        raise OSError("no")

    store.garbage._chores = (fail, lambda: done.append(True))
    assert store.garbage.collect(False, 0).freed_blobs == 2
    assert done
    assert "a chore of collection failed" in caplog.text
