"""Tenants without a server: defaults, compare-and-swap, and quotas at the moment something is made."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import update

from services.adapter_store.domain.names import AdapterName
from services.adapter_store.domain.tenant import Quotas, TrustedKey
from services.adapter_store.domain.version import Lineage
from services.adapter_store.metadata import repeated
from services.adapter_store.metadata.tables import tenant_files
from services.common.errors import ServiceError
from tests.adapter_files import BASE_MODEL, WEIGHTS, adapter_files, declared, layer, lora
from tests.unit.adapter_store.conftest import NAME, publish

KEY = TrustedKey("ci", b"k" * 32)


def refused(call, *arguments):
    with pytest.raises(ServiceError) as caught:
        call(*arguments)
    return caught.value


def limit(store, **quotas):
    store.tenants.update("acme", "", {"quotas": Quotas(**quotas)})


def start(store, request_id=""):
    return store.uploads.start(NAME, declared(adapter_files()), {}, Lineage(), request_id)


def test_a_tenant_is_there_as_soon_as_it_is_named(store):
    view = store.tenants.get("nobody")
    assert (view.tenant.quotas, view.tenant.etag, view.usage.adapters) == (Quotas(), "r0", 0)


def test_updates_are_compare_and_swap(store):
    first = store.tenants.update("acme", "r0", {"quotas": Quotas(max_adapters=2), "trusted_keys": [KEY]})
    assert (first.tenant.etag, first.tenant.trusted_keys) == ("r1", (KEY,))
    second = store.tenants.update("acme", "r1", {"require_signatures": True, "trusted_keys": []})
    assert second.tenant.quotas.max_adapters == 2
    assert (second.tenant.require_signatures, second.tenant.trusted_keys) == (True, ())
    error = refused(store.tenants.update, "acme", "r1", {"require_signatures": False})
    assert (error.reason, error.metadata["etag"]) == ("STALE_ETAG", "r2")
    same = store.tenants.update("acme", "r2", {"require_signatures": True})
    assert same.tenant.etag == "r2"
    entries = store.audit_log.list("acme", 0, "").rows
    assert [e.resource for e in entries[:2]] == ["tenants/acme"] * 2
    assert "require_signatures True" in entries[0].detail
    assert entries[1].detail == "max_adapters 0 to 2; trusted keys ci"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"quotas": Quotas(max_bytes=-1)}, "tenant.quotas.max_bytes"),
        ({"trusted_keys": [TrustedKey("ci", b"short")]}, "tenant.trusted_keys.public_key"),
        ({"trusted_keys": [TrustedKey("C I", b"k" * 32)]}, "tenant.trusted_keys.key_id"),
        ({"trusted_keys": [KEY, KEY]}, "tenant.trusted_keys.key_id"),
        ({"trusted_keys": [TrustedKey(f"k{i}", b"k" * 32) for i in range(65)]}, "tenant.trusted_keys"),
        ({"usage": None}, "update_mask"),
    ],
)
def test_bad_changes(store, changes, field):
    error = refused(store.tenants.update, "acme", "", changes)
    assert (error.reason, error.field) == ("INVALID_FIELD", field)


def test_usage_counts_shared_bytes_once(store):
    files = adapter_files()
    publish(store, files)
    publish(store, files)
    usage = store.tenants.get("acme").usage
    assert (usage.adapters, usage.versions, usage.open_uploads) == (1, 2, 0)
    assert usage.bytes == sum(len(data) for data in files.values())


def test_usage_follows_versions_as_they_come_and_go(store):
    def held():
        usage = store.tenants.get("acme").usage
        assert store.check_integrity() == []
        return usage.bytes, usage.versions

    one, two = (adapter_files(lora(layer(0, "self_attn.q_proj"), seed=seed)) for seed in (1, 2))
    size, new = sum(map(len, one.values())), len(two[WEIGHTS])
    other = AdapterName("acme", "other")
    store.adapters.create(other, BASE_MODEL.name, "", "", {})
    assert held() == (0, 0)
    publish(store, one)
    publish(store, one, other)
    assert held() == (size, 2)
    upload, _ = store.uploads.start(NAME, declared(two), {}, Lineage(), "")
    assert held() == (size + new, 3), "what is to come counts at once"
    store.uploads.abort(upload.id)
    assert held() == (size, 2)
    store.deletions.delete_version(NAME, 2)
    assert held() == (size, 2), "one that failed counts no less when it is deleted"
    publish(store, two)
    store.versions.disable(NAME, 3)
    assert held() == (size + new, 3)
    store.deletions.delete_version(NAME, 1)
    assert held() == (size + new, 2), "the other adapter has these bytes still"
    store.deletions.delete_adapter(NAME, "")
    assert held() == (size, 1)
    store.deletions.delete_adapter(other, "")
    assert held() == (0, 0)


def test_a_version_that_is_refused_or_deleted_on_its_way_counts_no_more(store):
    broken = adapter_files() | {"adapter_config.json": b"{}"}
    with pytest.raises(ServiceError):
        publish(store, broken)
    upload, _ = start(store)
    store.deletions.delete_version(NAME, upload.version)
    usage = store.tenants.get("acme").usage
    assert (usage.bytes, usage.versions, usage.open_uploads) == (0, 0, 0)


def test_quotas_go_by_what_was_counted_and_check_says_if_that_is_wrong(store):
    publish(store)
    limit(store, max_bytes=1 << 30)

    def miscount(more):
        with store._database.write() as uow:
            uow.tenant_counts._move("acme", more, 0)
            uow.commit()

    miscount(1 << 30)
    assert refused(store.uploads.start, NAME, declared(adapter_files()), {}, Lineage(), "").reason == (
        "QUOTA_EXCEEDED"
    )
    [problem] = store.check_integrity()
    assert "tenants/acme: (bytes, versions) are counted as" in problem
    miscount(-(1 << 30))


def test_check_counts_the_versions_of_each_file(store):
    file = publish(store).files[0]

    def recount(num_versions):
        with store._database.write() as uow:
            where = tenant_files.c.sha256 == file.sha256
            uow._connection.execute(update(tenant_files).where(where).values(num_versions=num_versions))
            uow.commit()

    recount(7)
    assert store.check_integrity() == [
        f"tenants/acme: its versions that refer to {file.sha256} are miscounted"
    ]
    recount(1)


@pytest.mark.parametrize("quota", ["max_versions", "max_open_uploads"])
def test_one_more_than_the_quota_is_refused_by_name(store, quota):
    limit(store, **{quota: 1})
    upload, _ = start(store)
    error = refused(start, store)
    assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED")
    assert (error.metadata["quota"], error.retry_after_s is not None) == (quota, True)
    assert quota in error.message
    store.uploads.abort(upload.id)
    start(store)


def test_the_same_request_again_is_no_more(store):
    limit(store, max_open_uploads=1, max_versions=1)
    first, _ = start(store, "r1")
    again, _ = start(store, "r1")
    assert again.id == first.id


def test_bytes_are_checked_before_they_flow(store):
    size = sum(len(data) for data in adapter_files().values())
    limit(store, max_bytes=size - 1)
    assert refused(start, store).metadata["quota"] == "max_bytes"
    limit(store, max_bytes=size)
    publish(store)
    publish(store)  # the same bytes again are none


def test_adapters(store):
    limit(store, max_adapters=1)
    error = refused(store.adapters.create, AdapterName("acme", "two"), BASE_MODEL.name, "", "", {})
    assert error.metadata["quota"] == "max_adapters"
    store.adapters.create(AdapterName("beta", "two"), BASE_MODEL.name, "", "", {})


def test_of_many_at_once_only_as_many_get_in_as_the_quota_allows(store):
    limit(store, max_open_uploads=3)

    def attempt(_: int) -> str:
        try:
            start(store)
        except ServiceError as error:
            return error.reason
        return "started"

    with ThreadPoolExecutor(8) as threads:
        assert sorted(threads.map(attempt, range(12))) == ["QUOTA_EXCEEDED"] * 9 + ["started"] * 3


def test_who_gives_no_etag_is_not_told_of_others_that_change_a_new_tenant(store):
    def attempt(number: int) -> None:
        repeated(store.tenants.update, "fresh", "", {"quotas": Quotas(max_adapters=1 + number)})

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(attempt, range(4))) == [None] * 4
    assert store.tenants.get("fresh").tenant.etag == "r4"


def test_who_gives_no_etag_is_not_told_of_others_that_change_an_adapter(store):
    def attempt(number: int) -> None:
        store.adapters.update(NAME, "", {"display_name": str(number)})

    before = store.adapters.get(NAME).etag
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(attempt, range(4))) == [None] * 4
    assert store.adapters.get(NAME).etag != before
