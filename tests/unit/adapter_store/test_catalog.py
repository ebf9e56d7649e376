import dataclasses
import threading

import pytest

from services.adapter_store.domain.actor import Actor
from services.adapter_store.domain.base_model import Module
from services.adapter_store.domain.names import AdapterName, parse_reference
from services.adapter_store.domain.version import VersionState
from services.common.errors import Code, Reason, ServiceError
from tests.adapter_files import BASE_MODEL, WEIGHTS, adapter_files
from tests.unit.adapter_store.conftest import NAME, publish

OTHER = AdapterName("acme", "other")


def refusal(call, *arguments):
    with pytest.raises(ServiceError) as caught:
        call(*arguments)
    return caught.value


def resolved(store, text):
    return store.versions.resolve(parse_reference(text, "name")).version.version


class TestBaseModels:
    def test_the_same_again_may_change_the_ceiling(self, store):
        higher = dataclasses.replace(BASE_MODEL, max_rank=64)
        assert store.base_models.register(BASE_MODEL) == BASE_MODEL
        store.base_models.register(higher)
        assert store.base_models.get(BASE_MODEL.name) == higher

    def test_another_digest_is_refused(self, store):
        error = refusal(store.base_models.register, dataclasses.replace(BASE_MODEL, digest="c" * 64))
        assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, Reason.BASE_MODEL_CONFLICT)
        assert store.base_models.get(BASE_MODEL.name) == BASE_MODEL

    def test_unknown(self, store):
        for name in ("nobody/knows", "no\0body"):
            error = refusal(store.base_models.get, name)
            assert (error.code, error.reason) == (Code.NOT_FOUND, Reason.BASE_MODEL_NOT_FOUND)

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"name": ""}, "base_model"),
            ({"name": "x" * 257}, "base_model"),
            ({"digest": "xyz"}, "digest"),
            ({"architecture": ""}, "architecture"),
            ({"hidden_size": 0}, "hidden_size"),
            ({"num_layers": 0}, "num_layers"),
            ({"max_rank": 0}, "max_rank"),
            ({"modules": ()}, "modules"),
            ({"modules": (Module("a", 0, 1),)}, "modules[0].in_features"),
            ({"modules": (Module("a", 1, 1), Module("a", 1, 1))}, "modules"),
            ({"modules": (Module("", 1, 1),)}, "modules[0].name"),
        ],
    )
    def test_bad_fields(self, store, changes, field):
        error = refusal(store.base_models.register, dataclasses.replace(BASE_MODEL, **changes))
        assert (error.reason, error.field) == (Reason.INVALID_FIELD, f"base_model.{field}")

    def test_list(self, store):
        for i in range(4):
            store.base_models.register(dataclasses.replace(BASE_MODEL, name=f"b{i}"))
        first = store.base_models.list(3, "")
        rest = store.base_models.list(3, first.next_page_token)
        assert [m.name for m in first.rows + rest.rows] == ["acme/tiny", "b0", "b1", "b2", "b3"]
        assert rest.next_page_token == ""


class TestAdapters:
    def test_create_twice(self, store):
        error = refusal(store.adapters.create, NAME, BASE_MODEL.name, "", "", {})
        assert (error.code, error.reason) == (Code.ALREADY_EXISTS, Reason.ADAPTER_EXISTS)

    def test_create_needs_a_registered_base_model(self, store):
        assert (
            refusal(store.adapters.create, OTHER, "no/model", "", "", {}).reason
            is Reason.BASE_MODEL_NOT_FOUND
        )
        assert refusal(store.adapters.create, OTHER, "", "", "", {}).field == "adapter.base_model"
        assert refusal(store.adapters.get, OTHER).reason is Reason.ADAPTER_NOT_FOUND

    def test_bad_texts(self, store):
        for arguments, field in [
            (("x" * 129, "", {}), "adapter.display_name"),
            (("", "x" * 4097, {}), "adapter.description"),
            (("", "", {"": "x"}), "adapter.labels.key"),
        ]:
            assert refusal(store.adapters.create, OTHER, BASE_MODEL.name, *arguments).field == field

    def test_update_changes_what_it_names_and_the_etag(self, store):
        before = store.adapters.get(NAME)
        after = store.adapters.update(NAME, before.etag, {"description": "new", "labels": {"a": "b"}})
        assert (after.display_name, after.description, after.labels) == ("", "new", {"a": "b"})
        assert after.etag != before.etag
        assert after.update_time > before.update_time == before.create_time == after.create_time
        assert store.adapters.get(NAME) == after

    def test_stale_etag(self, store):
        before = store.adapters.get(NAME)
        store.adapters.update(NAME, "", {"description": "theirs"})
        error = refusal(store.adapters.update, NAME, before.etag, {"description": "mine"})
        assert (error.code, error.reason) == (Code.ABORTED, Reason.STALE_ETAG)
        assert store.adapters.get(NAME).description == "theirs"

    def test_update_of_other_fields(self, store):
        assert refusal(store.adapters.update, NAME, "", {"base_model": "x"}).field == "update_mask"
        assert refusal(store.adapters.update, OTHER, "", {}).reason is Reason.ADAPTER_NOT_FOUND

    def test_list_by_tenant_and_all(self, store):
        for tenant in ("acme", "zoo", "acme-2"):
            for adapter in ("a", "b"):
                store.adapters.create(AdapterName(tenant, adapter), BASE_MODEL.name, "", "", {})
        names = [str(adapter.name) for adapter in store.adapters.list(None, 0, "").rows]
        assert names == sorted(names, key=lambda name: name.split("/")[1::2])
        assert len(names) == 7
        first = store.adapters.list("acme", 2, "")
        rest = store.adapters.list("acme", 2, first.next_page_token)
        assert [a.name.adapter for a in first.rows + rest.rows] == ["a", "b", "support"]
        assert refusal(store.adapters.list, "zoo", 2, first.next_page_token).field == "page_token"

    def test_shows_aliases_and_the_latest_active_version(self, store):
        assert store.adapters.get(NAME).latest_version == 0
        publish(store), publish(store)
        store.aliases.set(NAME, "staging", 1, None, Actor("me", "test"))
        store.versions.disable(NAME, 2)
        adapter = store.adapters.list("acme", 0, "").rows[0]
        assert adapter.latest_version == 1
        assert [(alias.name, alias.version) for alias in adapter.aliases] == [("staging", 1)]


class TestAliases:
    @pytest.fixture(autouse=True)
    def three_versions(self, store):
        for _ in range(3):
            publish(store)

    def test_compare_and_swap(self, store):
        assert store.aliases.set(NAME, "staging", 1, 0, Actor("ci", "test")).version == 1
        assert store.aliases.set(NAME, "staging", 2, 1, Actor("ci", "test")).version == 2
        for expected in (0, 1, 3):
            error = refusal(store.aliases.set, NAME, "staging", 3, expected, "ci")
            assert (error.code, error.reason) == (Code.ABORTED, Reason.ALIAS_MOVED)
            assert error.metadata["current_version"] == "2"
            assert "version 2" in error.message
        assert store.aliases.set(NAME, "staging", 3, None, Actor("ci", "test")).version == 3
        error = refusal(store.aliases.set, NAME, "new", 1, 2, "ci")
        assert error.metadata["current_version"] == "0"

    def test_there_are_only_so_many(self, store, monkeypatch):
        publish(store)
        monkeypatch.setattr("services.adapter_store.catalog.aliases.MAX_ALIASES", 2)
        for alias in ("a", "b", "a"):
            store.aliases.set(NAME, alias, 1, None, Actor("", "test"))
        with pytest.raises(ServiceError, match="delete one") as caught:
            store.aliases.set(NAME, "c", 1, None, Actor("", "test"))
        assert caught.value.reason is Reason.QUOTA_EXCEEDED
        store.aliases.delete(NAME, "a", None, Actor("", "test"))
        store.aliases.set(NAME, "c", 1, 0, Actor("", "test"))

    def test_every_move_is_kept_newest_first(self, store):
        store.aliases.set(NAME, "staging", 1, None, Actor("ann", "test"))
        store.aliases.set(NAME, "staging", 1, 1, Actor("nobody moved it", "test"))
        store.aliases.set(NAME, "staging", 3, 1, Actor("bob", "test"))
        store.aliases.delete(NAME, "staging", 3, Actor("cy", "test"))
        moves = store.aliases.history(NAME, "staging", 0, "").rows
        assert [(m.from_version, m.to_version, m.moved_by) for m in moves] == [
            (3, 0, "cy"),
            (1, 3, "bob"),
            (0, 1, "ann"),
        ]
        assert moves[0].time > moves[1].time > moves[2].time
        first = store.aliases.history(NAME, "staging", 2, "")
        assert store.aliases.history(NAME, "staging", 2, first.next_page_token).rows == moves[2:]

    def test_of_many_swaps_from_one_version_one_wins(self, store):
        store.aliases.set(NAME, "staging", 1, 0, Actor("ci", "test"))
        outcomes = []

        def swap(version):
            try:
                store.aliases.set(NAME, "staging", version, 1, Actor("ci", "test"))
                outcomes.append(version)
            except ServiceError as error:
                outcomes.append(error.reason)

        threads = [threading.Thread(target=swap, args=(2 + i % 2,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert outcomes.count(Reason.ALIAS_MOVED) == 7
        assert len(store.aliases.history(NAME, "staging", 0, "").rows) == 2

    def test_targets(self, store):
        assert refusal(store.aliases.set, NAME, "x", 9, None, "").reason is Reason.VERSION_NOT_FOUND
        assert refusal(store.aliases.set, NAME, "x", 0, None, "").field == "version"
        assert refusal(store.aliases.set, NAME, "x", 1, -1, "").field == "expected_version"
        store.versions.disable(NAME, 2)
        error = refusal(store.aliases.set, NAME, "x", 2, None, "")
        assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, Reason.VERSION_NOT_ACTIVE)
        assert refusal(store.aliases.set, OTHER, "x", 1, None, "").reason is Reason.ADAPTER_NOT_FOUND

    def test_delete(self, store):
        assert refusal(store.aliases.delete, NAME, "x", None, "").reason is Reason.ALIAS_NOT_FOUND
        store.aliases.set(NAME, "x", 1, None, Actor("", "test"))
        assert refusal(store.aliases.delete, NAME, "x", 2, "").reason is Reason.ALIAS_MOVED
        store.aliases.delete(NAME, "x", 1, Actor("", "test"))
        assert (
            refusal(store.versions.resolve, parse_reference("acme/support@x", "f")).reason
            is Reason.ALIAS_NOT_FOUND
        )
        assert refusal(store.aliases.history, NAME, "never", 0, "").reason is Reason.ALIAS_NOT_FOUND


class TestVersions:
    def test_what_names_resolve_to(self, store):
        bare = parse_reference("acme/support", "f")
        assert refusal(store.versions.resolve, bare).reason is Reason.VERSION_NOT_FOUND
        for _ in range(3):
            publish(store)
        assert resolved(store, "acme/support") == 3
        store.aliases.set(NAME, "production", 2, None, Actor("", "test"))
        store.aliases.set(NAME, "staging", 1, None, Actor("", "test"))
        assert resolved(store, "acme/support") == 2
        assert resolved(store, "acme/support@staging") == 1
        assert resolved(store, "acme/support@latest") == 3
        assert resolved(store, "acme/support@3") == 3
        assert resolved(store, "tenants/acme/adapters/support/aliases/latest") == 3
        for text, reason in [
            ("acme/none", Reason.ADAPTER_NOT_FOUND),
            ("acme/support@4", Reason.VERSION_NOT_FOUND),
            ("acme/support@none", Reason.ALIAS_NOT_FOUND),
        ]:
            error = refusal(store.versions.resolve, parse_reference(text, "f"))
            assert (error.code, error.reason) == (Code.NOT_FOUND, reason)

    def test_a_disabled_version_is_never_replaced_by_another(self, store):
        publish(store), publish(store)
        store.aliases.set(NAME, "production", 2, None, Actor("", "test"))
        assert store.versions.disable(NAME, 2).state is VersionState.DISABLED
        assert store.versions.disable(NAME, 2).state is VersionState.DISABLED
        for text in ("acme/support", "acme/support@2", "acme/support@production"):
            error = refusal(store.versions.resolve, parse_reference(text, "f"))
            assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, Reason.VERSION_NOT_ACTIVE)
            assert "enable" in error.message
        assert resolved(store, "acme/support@latest") == 1
        assert store.versions.enable(NAME, 2).state is VersionState.ACTIVE
        assert store.versions.enable(NAME, 2).weights is not None
        assert resolved(store, "acme/support") == 2

    def test_a_disabled_version_can_still_be_read(self, store):
        version = publish(store)
        store.versions.disable(NAME, 1)
        for reference in (version.key, parse_reference("acme/support@1", "f")):
            assert store.versions.readable_file(reference, WEIGHTS).path == WEIGHTS
        assert (
            refusal(store.versions.readable_file, parse_reference("acme/support@1", "f"), "x").reason
            is Reason.FILE_NOT_FOUND
        )
        assert refusal(store.versions.readable_file, "0" * 64, WEIGHTS).reason is Reason.VERSION_NOT_FOUND
        assert refusal(store.versions.readable_file, "zz", WEIGHTS).field == "key"

    def test_the_same_bytes_have_the_same_key(self, store):
        one, two = publish(store), publish(store)
        other = publish(store, adapter_files(lora_alpha=9))
        assert one.key == two.key != other.key
        assert (one.version, two.version, other.version) == (1, 2, 3)

    def test_list_newest_first(self, store):
        for _ in range(5):
            publish(store)
        first = store.versions.list(NAME, 3, "")
        rest = store.versions.list(NAME, 3, first.next_page_token)
        assert [v.version for v in first.rows + rest.rows] == [5, 4, 3, 2, 1]
        assert first.rows[2] == store.versions.get(NAME, 3)
        assert refusal(store.versions.list, OTHER, 3, "").reason is Reason.ADAPTER_NOT_FOUND
        assert refusal(store.versions.get, NAME, 6).reason is Reason.VERSION_NOT_FOUND
