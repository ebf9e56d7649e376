import threading
from datetime import timedelta

import pytest

from services.adapter_store.catalog import Versions
from services.adapter_store.domain.actor import Actor
from services.adapter_store.domain.alias import Shadow, TrafficTarget
from services.adapter_store.domain.change import ChangeKind
from services.adapter_store.domain.names import parse_reference
from services.adapter_store.domain.version import Lineage, VersionState
from services.common.errors import Code, Reason, ServiceError
from tests.adapter_files import BASE_MODEL, WEIGHTS, adapter_files, declared
from tests.unit.adapter_store.conftest import NAME, publish
from tests.unit.adapter_store.test_aliases import changes, refusal

ME = Actor("me", "test")


def start(store):
    upload, _ = store.uploads.start(NAME, declared(adapter_files()), {}, Lineage(), "")
    return upload


class TestVersions:
    def test_a_deleted_version_is_a_tombstone(self, store):
        key = publish(store).key
        publish(store, adapter_files(lora_alpha=9))
        deleted = store.deletions.delete_version(NAME, 1, ME)
        assert deleted.state is VersionState.DELETED
        assert store.versions.get(NAME, 1) == deleted
        assert [version.version for version in store.versions.list(NAME, 0, "").rows] == [2]
        at_once = Versions(store._database, deleted_grace=timedelta(0))
        for call in (
            lambda: store.versions.resolve(parse_reference("acme/support@1", "f")),
            lambda: at_once.readable_file(parse_reference("acme/support@1", "f"), WEIGHTS),
            lambda: store.versions.enable(NAME, 1),
            lambda: store.versions.disable(NAME, 1),
            lambda: store.deletions.delete_version(NAME, 1, ME),
        ):
            error = refusal(call)
            assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, Reason.VERSION_NOT_ACTIVE)
            assert "DELETED" in error.message
        assert refusal(store.versions.readable_file, key, WEIGHTS).reason is Reason.VERSION_NOT_FOUND
        assert changes(store)[-1] == (ChangeKind.VERSION_DELETED, NAME.version(1))

    def test_a_number_is_never_used_again(self, store):
        publish(store)
        store.deletions.delete_version(NAME, 1, ME)
        assert publish(store).version == 2
        assert store.versions.resolve(parse_reference("acme/support", "f")).version.version == 2

    def test_the_same_bytes_under_another_version_stay(self, store):
        key = publish(store).key
        publish(store)
        store.deletions.delete_version(NAME, 1, ME)
        assert store.versions.readable_file(key, WEIGHTS).path == WEIGHTS

    @pytest.mark.parametrize("use", ["version", "target", "shadow"])
    def test_a_version_that_an_alias_uses_stays(self, store, use):
        for _ in range(3):
            publish(store)
        aims = {
            "version": {"version": 3},
            "target": {"version": 0, "targets": (TrafficTarget(1, 1), TrafficTarget(3, 1))},
            "shadow": {"version": 1, "shadow": Shadow(3, 0.5)},
        }
        aim = dict(aims[use])
        store.aliases.set(NAME, "canary", aim.pop("version"), None, ME, **aim)
        error = refusal(store.deletions.delete_version, NAME, 3, ME)
        assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, Reason.VERSION_IN_USE)
        assert "canary" in error.message
        store.aliases.delete(NAME, "canary", None, ME)
        assert store.deletions.delete_version(NAME, 3, ME).state is VersionState.DELETED

    def test_one_that_is_being_made_is_given_up(self, store):
        upload = start(store)
        assert store.deletions.delete_version(NAME, upload.version, ME).state is VersionState.DELETED
        assert refusal(store.uploads.finish, upload.id).reason is Reason.UPLOAD_NOT_FOUND
        assert refusal(store.intake.open_file, upload.id, WEIGHTS).reason is Reason.UPLOAD_NOT_FOUND
        assert start(store).version == 2

    def test_failed_and_disabled_ones_go_too(self, store):
        publish(store)
        store.versions.disable(NAME, 1)
        store.uploads.abort(start(store).id)
        for number in (1, 2):
            assert store.deletions.delete_version(NAME, number, ME).state is VersionState.DELETED
        assert refusal(store.deletions.delete_version, NAME, 3, ME).reason is Reason.VERSION_NOT_FOUND

    def test_an_alias_and_a_deletion_race_and_one_of_them_is_refused(self, store):
        for round_number in range(1, 9):
            publish(store)
            outcomes = []

            def attempt(call, *arguments, outcomes=outcomes):
                try:
                    call(*arguments)
                    outcomes.append(None)
                except ServiceError as error:
                    outcomes.append(error.reason)

            threads = [
                threading.Thread(target=attempt, args=(store.aliases.set, NAME, "x", round_number, None, ME)),
                threading.Thread(
                    target=attempt, args=(store.deletions.delete_version, NAME, round_number, ME)
                ),
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert outcomes.count(None) == 1
            assert {*outcomes} - {None} <= {Reason.VERSION_IN_USE, Reason.VERSION_NOT_ACTIVE}


class TestAdapters:
    def test_everything_of_it_goes(self, store):
        publish(store)
        store.aliases.set(NAME, "production", 1, None, ME)
        upload = start(store)
        store.deletions.delete_adapter(NAME, "", ME)
        assert store.adapters.list(None, 0, "").rows == ()
        for call in (
            lambda: store.adapters.get(NAME),
            lambda: store.versions.get(NAME, 1),
            lambda: store.versions.resolve(parse_reference("acme/support", "f")),
            lambda: store.aliases.set(NAME, "x", 1, None, ME),
            lambda: store.aliases.history(NAME, "production", 0, ""),
            lambda: store.adapters.update(NAME, "", {"description": "x"}),
            lambda: start(store),
            lambda: store.deletions.delete_adapter(NAME, "", ME),
        ):
            assert refusal(call).reason is Reason.ADAPTER_NOT_FOUND
        assert refusal(store.uploads.finish, upload.id).reason is Reason.UPLOAD_NOT_FOUND
        assert changes(store)[-2:] == [
            (ChangeKind.ALIAS_CHANGED, NAME.alias("production")),
            (ChangeKind.ADAPTER_DELETED, str(NAME)),
        ]

    def test_made_again_it_goes_on_with_the_next_number(self, store):
        publish(store), publish(store)
        old = store.adapters.get(NAME)
        store.deletions.delete_adapter(NAME, old.etag, ME)
        made = store.adapters.create(NAME, BASE_MODEL.name, "again", "", {})
        assert (made.display_name, made.aliases, made.latest_version) == ("again", (), 0)
        assert made.etag != old.etag
        assert store.versions.list(NAME, 0, "").rows == ()
        assert publish(store).version == 3
        error = refusal(store.versions.resolve, parse_reference("acme/support@1", "f"))
        assert error.reason is Reason.VERSION_NOT_ACTIVE
        assert refusal(store.adapters.create, NAME, BASE_MODEL.name, "", "", {}).reason is (
            Reason.ADAPTER_EXISTS
        )

    def test_a_stale_etag(self, store):
        etag = store.adapters.get(NAME).etag
        store.adapters.update(NAME, "", {"description": "theirs"})
        error = refusal(store.deletions.delete_adapter, NAME, etag, ME)
        assert (error.code, error.reason) == (Code.ABORTED, Reason.STALE_ETAG)
        assert store.adapters.get(NAME).description == "theirs"
