"""Imports from a directory."""

import os

import pytest

from services.adapter_store.blobs.s3_place import parse_endpoint
from services.adapter_store.domain.names import AdapterName
from services.adapter_store.domain.tenant import Quotas
from services.adapter_store.domain.version import Lineage, VersionState
from services.adapter_store.imports import ImportRequest
from services.adapter_store.imports.hub_source import Hub
from services.adapter_store.imports.importer import ImportCancelledError
from services.adapter_store.imports.s3_source import S3
from services.adapter_store.store import utc_now
from services.common.errors import Reason
from services.common.settings import S3Credentials
from tests.adapter_files import BASE_MODEL, CONFIG, WEIGHTS, declared
from tests.integration.adapter_store.import_world import (
    ACTOR,
    FILES,
    NAME,
    TRAINING,
    paths,
    refusal,
    run,
    write,
)
from tests.unit.adapter_store.test_signed_versions import TRUSTED, signature


@pytest.fixture
def root(tmp_path):
    write(tmp_path / "root" / "support", FILES | TRAINING)
    return tmp_path / "root"


@pytest.mark.parametrize("form", ["support", "absolute", "./support/../support"])
def test_a_directory_becomes_a_version_without_what_training_left(make_store, root, form):
    store = make_store(directories=(root,))
    seen = []
    source = str(root / "support") if form == "absolute" else form
    version = run(
        store, source, labels={"a": "b"}, lineage=Lineage(run_id="7", notes="n"), report=seen.append
    )
    assert version.state is VersionState.ACTIVE
    assert paths(version) == ["README.md", CONFIG, WEIGHTS]
    assert (version.labels, version.lineage.run_id) == ({"a": "b"}, "7")
    assert version.lineage.notes == f"n\nimported from {source}"
    assert {(p.path, p.done_bytes) for p in seen if p.done_bytes == p.total_bytes} == {
        (path, len(data)) for path, data in FILES.items()
    }
    assert store.check_integrity() == []
    assert not list((root.parent / "imports").glob("*/*"))


SIZE = sum(map(len, FILES.values()))


def test_a_tenants_imports_hold_no_more_of_the_disk_than_they_may(make_store, root, tmp_path):
    store = make_store(max_scratch_bytes=2 * SIZE - 1, directories=(root,))
    stop = []
    with pytest.raises(ImportCancelledError):
        run(store, "support", request_id="r1", report=stop.append, cancelled=lambda: len(stop) == 5)
    left = sum(path.stat().st_size for path in (tmp_path / "imports" / "acme").glob("*/*"))
    assert left == SIZE, "what came stays for the next try, and counts"
    error = refusal(store, "support")
    assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED")
    assert error.metadata == {"quota": "import_scratch_bytes", "limit": str(2 * SIZE - 1)}
    assert "--import-scratch-bytes" in error.message
    other = AdapterName("beta", "support")
    store.adapters.create(other, BASE_MODEL.name, "", "", {})
    request = ImportRequest(other, "support", {}, Lineage(), "")
    assert store.importer.run(request, ACTOR, lambda _: None, lambda: False).version == 1
    assert run(store, "support", request_id="r1").version == 1, "its own bytes do not count twice"
    assert run(store, "support").version == 2


def test_an_import_under_way_counts_for_all_that_it_will_read(make_store, root):
    store = make_store(max_scratch_bytes=2 * SIZE - 1, directories=(root,))
    refused = []

    def meanwhile(progress):
        if not refused:
            refused.append(refusal(store, "support").reason)

    run(store, "support", report=meanwhile)
    assert refused == [Reason.QUOTA_EXCEEDED]


def test_what_an_import_left_of_a_source_that_changed_is_dropped_before_more_is_read(
    make_store, root, tmp_path
):
    store = make_store(max_scratch_bytes=SIZE, directories=(root,))
    seen = []
    for number in range(3):
        os.utime(root / "support" / WEIGHTS, ns=(number, number))
        with pytest.raises(ImportCancelledError):
            run(
                store,
                "support",
                request_id="r1",
                report=seen.append,
                cancelled=lambda: bool(seen) and seen[-1].path == WEIGHTS,
            )
        seen.clear()
        left = sum(path.stat().st_size for path in (tmp_path / "imports" / "acme").glob("*/*"))
        assert left == SIZE
    assert run(store, "support", request_id="r1").version == 1


def test_one_import_larger_than_a_tenant_may_have_is_refused_unread(make_store, root, tmp_path):
    store = make_store(max_scratch_bytes=SIZE - 1, directories=(root,))
    assert refusal(store, "support", request_id="r1").reason is Reason.QUOTA_EXCEEDED
    assert not [path for path in (tmp_path / "imports").rglob("*") if path.is_file() and path.stat().st_size]


def test_what_is_not_below_an_import_dir_is_not_there(make_store, root, tmp_path):
    outside = write(tmp_path / "outside", FILES)
    (root / "link").symlink_to(outside)
    store = make_store(directories=(root,))
    words = set()
    elsewhere = (str(outside), "../outside", "link", "/etc", "support/../../outside")
    for source in (*elsewhere, "nowhere", "x" * 300, "\0"):
        error = refusal(store, source)
        if error.reason is not Reason.INVALID_FIELD:  # the control character
            assert (error.reason, error.field) == (Reason.SOURCE_NOT_FOUND, "source"), source
            words.add(error.message.partition(":")[2])
    assert len(words) == 1
    assert len(store.versions.list(NAME, 0, "").rows) == 0


def test_files_that_lead_outside_or_are_no_files_are_not_taken(make_store, root, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"# secret")
    (root / "support" / "README.md").unlink()
    (root / "support" / "README.md").symlink_to(secret)
    os.mkfifo(root / "support" / "tokenizer.json")
    assert paths(run(make_store(directories=(root,)), "support")) == [CONFIG, WEIGHTS]


def test_links_below_the_import_dir_are_followed(make_store, root):
    write(root / "blobs", {"abc": FILES[WEIGHTS]})
    (root / "support" / WEIGHTS).unlink()
    (root / "support" / WEIGHTS).symlink_to("../blobs/abc")
    (root / "now").symlink_to("support")
    assert WEIGHTS in paths(run(make_store(directories=(root,)), "now"))


@pytest.mark.parametrize(
    "source",
    [
        "file:///etc", "file:/etc", "http://127.0.0.1/x", "ftp://x/y", "gopher://x", "FILE:///etc",
        "hf://", "hf://a/b/c", "hf://a/../b@main", "hf://a/b@../../x", "hf://a b", "s3://", "s3://bucket",
        "s3://b/p?endpoint=http://evil", "s3://B_/x", "s3://127.0.0.1/x", "s3://a..b/x", "hf://user:pw@evil/x",
    ],
)  # fmt: skip
def test_other_schemes_and_shapes_are_refused_unopened(make_store, root, source):
    buckets = frozenset({"b", "bucket", "127.0.0.1", "a..b"})
    s3 = S3(parse_endpoint("http://127.0.0.1:9"), S3Credentials("a", "b"), buckets)
    store = make_store(directories=(root,), s3=s3, hub=Hub("http://127.0.0.1:9", ""))
    error = refusal(store, source)
    assert (error.reason, error.field) == (Reason.SOURCE_NOT_FOUND, "source")


def test_a_store_that_may_read_nothing_says_how_it_could(make_store):
    store = make_store()
    for source, flag in (
        ("x", "--import-dir"),
        ("s3://bucket/x", "--import-s3-"),
        ("hf://a/b", "--import-hub-"),
    ):
        assert flag in refusal(store, source).message


def test_the_rules_of_an_upload_hold(make_store, root):
    store = make_store(directories=(root,))
    write(root / "pickled", {CONFIG: FILES[CONFIG], "adapter_model.bin": b"\x80\x02"})
    assert refusal(store, "pickled").reason is Reason.INVALID_ADAPTER
    write(root / "empty", {})
    assert (refusal(store, "empty").reason, CONFIG in refusal(store, "empty").message) == (
        Reason.INVALID_ADAPTER,
        True,
    )
    write(root / "large", {CONFIG: FILES[CONFIG], WEIGHTS: bytes(1 << 20)})
    assert "--max-upload-bytes" in refusal(store, "large").message
    assert len(store.versions.list(NAME, 0, "").rows) == 0
    write(root / "broken", {CONFIG: FILES[CONFIG], WEIGHTS: b"no safetensors"})
    assert refusal(store, "broken").reason is Reason.INVALID_ADAPTER
    assert store.versions.get(NAME, 1).state is VersionState.FAILED


def test_an_import_without_the_signature_that_is_asked_for_is_not_read(make_store, root):
    store = make_store(directories=(root,))
    store.tenants.update(NAME.tenant, "", {"trusted_keys": (TRUSTED,), "require_signatures": True})
    seen = []
    error = refusal(store, "support", report=seen.append)
    assert (error.reason, seen) == (Reason.BAD_SIGNATURE, [])
    assert "(ci)" in error.message
    version = run(store, "support", signature=signature(FILES))
    assert (version.state, version.signature) == (VersionState.ACTIVE, signature(FILES))


def test_what_a_quota_refuses_is_not_read(make_store, root):
    store, seen = make_store(directories=(root,)), []
    store.uploads.start(NAME, declared(FILES), {}, Lineage(), "")
    for quotas in (Quotas(max_bytes=100), Quotas(max_versions=1), Quotas(max_open_uploads=1)):
        store.tenants.update(NAME.tenant, "", {"quotas": quotas})
        assert refusal(store, "support", report=seen.append).reason is Reason.QUOTA_EXCEEDED
    assert seen == []


def test_the_same_request_gives_the_same_version_and_another_is_refused(make_store, root):
    store = make_store(directories=(root,))
    version = run(store, "support", request_id="once")
    (root / "support" / CONFIG).unlink()
    assert run(store, "support", request_id="once") == version
    write(root / "other", FILES)
    assert refusal(store, "other", request_id="once").field == "request_id"


@pytest.mark.parametrize(
    "other",
    [
        {"labels": {"team": "b"}},
        {"lineage": Lineage(run_id="r2", notes="n")},
        {"signature": signature(FILES)},
    ],
)
def test_the_same_request_with_other_words_is_refused_once_it_is_done_as_well(make_store, root, other):
    store = make_store(directories=(root,))
    store.tenants.update(NAME.tenant, "", {"trusted_keys": (TRUSTED,)})
    first = {"labels": {"team": "a"}, "lineage": Lineage(run_id="r1", notes="n")}
    version = run(store, "support", "r", **first)
    assert run(store, "support", "r", **first) == version
    error = refusal(store, "support", request_id="r", **first | other)
    assert (error.reason, error.field) == (Reason.INVALID_FIELD, "request_id")


def test_who_leaves_comes_back_to_what_has_been_read(make_store, root, tmp_path):
    store = make_store(directories=(root,))
    seen = []

    with pytest.raises(ImportCancelledError):
        run(store, "support", "once", report=seen.append, cancelled=lambda: len(seen) >= 3)
    assert {p.path for p in seen if p.done_bytes == p.total_bytes} == {"README.md"}
    again = []
    version = run(store, "support", "once", report=again.append)
    assert (version.state, again[0].path, again[0].done_bytes) == (VersionState.ACTIVE, "README.md", 9)
    seen.clear()
    with pytest.raises(ImportCancelledError):
        run(store, "support", report=seen.append, cancelled=lambda: len(seen) >= 3)
    assert not list((tmp_path / "imports").glob("*/*"))


def test_who_leaves_while_what_was_read_is_stored_ends_that_too(make_store, root):
    store = make_store(directories=(root,))
    seen = []

    def leave(request_id):
        seen.clear()
        with pytest.raises(ImportCancelledError):
            run(
                store,
                "support",
                request_id,
                report=seen.append,
                cancelled=lambda: len(seen) == 2 * len(FILES),
            )

    leave("once")
    assert store.tenants.get("acme").usage.open_uploads == 1, "the same request goes on with it"
    assert run(store, "support", "once").version == 1
    (root / "support" / "README.md").write_bytes(b"# other")
    leave("")
    usage = store.tenants.get("acme").usage
    assert (usage.open_uploads, usage.versions) == (0, 1), "nobody could go on with it"
    assert store.check_integrity() == []


def test_what_an_import_left_goes_when_it_is_old(make_store, root, tmp_path):
    store = make_store(directories=(root,))
    with pytest.raises(ImportCancelledError):
        run(store, "support", "once", cancelled=lambda: True)
    left = [path for path in (tmp_path / "imports").glob("*/*") if path.is_dir()]
    store.importer.sweep(0)
    assert left[0].is_dir()
    store.importer.sweep(utc_now().timestamp() + 1)
    assert not list((tmp_path / "imports").glob("*/*"))
