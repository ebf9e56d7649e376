"""Imports from a directory, a real S3 server, and a server that speaks the hub's protocol."""

import io
import os
from pathlib import Path

import pytest

from services.adapter_store.blobs import LocalBlobs
from services.adapter_store.blobs.s3_place import parse_endpoint
from services.adapter_store.domain.actor import Actor
from services.adapter_store.domain.names import AdapterName
from services.adapter_store.domain.tenant import Quotas
from services.adapter_store.domain.version import Lineage, VersionState
from services.adapter_store.imports import ImportPlaces, ImportRequest, ImportRoom
from services.adapter_store.imports.hub_source import Hub
from services.adapter_store.imports.importer import ImportCancelledError
from services.adapter_store.imports.s3_source import S3
from services.adapter_store.metadata import Database
from services.adapter_store.staging import LocalStaging
from services.adapter_store.store import Store, utc_now
from services.common.errors import Reason, ServiceError
from services.common.settings import S3Credentials
from tests.adapter_files import BASE_MODEL, CONFIG, WEIGHTS, adapter_files, declared, layer, lora, sha256
from tests.hub_server import TOKEN, running_hub
from tests.s3_server import ACCESS_KEY, BUCKET, SECRET_KEY
from tests.unit.adapter_store.test_signed_versions import TRUSTED, signature

NAME = AdapterName("acme", "support")
ACTOR = Actor("tester", "ImportVersion")
TRAINING = {"optimizer.pt": b"PK\x03\x04", "training_args.bin": b"\x80\x02x", "notes.pdf": b"%PDF"}
FILES = adapter_files() | {"README.md": b"# support"}


@pytest.fixture
def hub():
    with running_hub() as hub:
        yield hub


@pytest.fixture
def make_store(tmp_path, sqlite_url):
    """Makes the store of this test, with what it may import from."""
    databases = []

    def make(max_scratch_bytes=1 << 30, **places) -> Store:
        database = Database(sqlite_url)
        databases.append(database)
        blobs = LocalBlobs(tmp_path / "blobs")
        staging = LocalStaging(tmp_path / "uploads", blobs)
        room = ImportRoom(tmp_path / "imports", ImportPlaces(**places), max_scratch_bytes)
        store = Store(database, blobs, staging, 1 << 20, utc_now, room)
        store.base_models.register(BASE_MODEL)
        if len(databases) == 1:
            store.adapters.create(NAME, BASE_MODEL.name, "", "", {})
        return store

    yield make
    for database in databases:
        database.close()


def run(
    store,
    source,
    request_id="",
    labels=None,
    lineage=None,
    report=lambda _: None,
    cancelled=None,
    signature=None,
):
    request = ImportRequest(NAME, source, labels or {}, lineage or Lineage(), request_id, signature)
    return store.importer.run(request, ACTOR, report, cancelled or (lambda: False))


def refusal(store, source, **more):
    with pytest.raises(ServiceError) as caught:
        run(store, source, **more)
    return caught.value


def write(directory: Path, files):
    directory.mkdir(parents=True, exist_ok=True)
    for path, data in files.items():
        (directory / path).write_bytes(data)
    return directory


def paths(version):
    return [file.path for file in version.files]


# ---- a local directory


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


# ---- object storage


@pytest.fixture
def s3(s3_server):
    buckets = frozenset({BUCKET, "nobody-has-this"})
    return S3(parse_endpoint(s3_server.endpoint), S3Credentials(ACCESS_KEY, SECRET_KEY), buckets)


def put(s3_server, prefix, files):
    client = s3_server.client()
    for path, data in files.items():
        client.put_object(BUCKET, f"{prefix}/{path}", io.BytesIO(data), len(data))


def test_a_prefix_of_a_bucket_becomes_a_version(make_store, s3_server, s3, s3_prefix):
    put(s3_server, s3_prefix, FILES | TRAINING | {"checkpoint-1/adapter_config.json": b"{}"})
    store = make_store(s3=s3)
    for source in (f"s3://{BUCKET}/{s3_prefix}", f"s3://{BUCKET}/{s3_prefix}/"):
        version = run(store, source)
        assert (version.state, paths(version)) == (VersionState.ACTIVE, ["README.md", CONFIG, WEIGHTS])
    assert store.check_integrity() == []


def test_what_is_not_in_object_storage_is_said_so(make_store, s3_server, s3, s3_prefix):
    store = make_store(s3=s3)
    assert "no object below" in refusal(store, f"s3://{BUCKET}/{s3_prefix}").message
    assert refusal(store, f"s3://nobody-has-this/{s3_prefix}").reason is Reason.SOURCE_NOT_FOUND


@pytest.mark.parametrize("buckets", [frozenset(), frozenset({"another", f"{BUCKET}-2"})])
def test_a_bucket_that_no_operator_named_is_refused_unread(make_store, s3_server, s3, s3_prefix, buckets):
    put(s3_server, s3_prefix, FILES)
    store = make_store(s3=S3(s3.endpoint, s3.credentials, buckets))
    error = refusal(store, f"s3://{BUCKET}/{s3_prefix}")
    assert (error.reason, error.field) == (Reason.SOURCE_NOT_FOUND, "source")
    assert "--import-s3-buckets" in error.message
    there_or_not = refusal(store, f"s3://nobody-has-this/{s3_prefix}").message
    assert there_or_not.partition(": ")[2] == error.message.partition(": ")[2]


def test_wrong_credentials_are_a_source_that_is_not_for_us(make_store, s3_server, s3, s3_prefix):
    store = make_store(s3=S3(s3.endpoint, S3Credentials(ACCESS_KEY, "wrong"), s3.buckets))
    error = refusal(store, f"s3://{BUCKET}/{s3_prefix}")
    assert error.reason is Reason.SOURCE_NOT_FOUND
    assert "wrong" not in error.message


def test_object_storage_that_is_away_is_worth_another_try(make_store):
    s3 = S3(parse_endpoint("http://127.0.0.1:9"), S3Credentials("a", "b"), frozenset({"bucket"}))
    error = refusal(make_store(s3=s3), "s3://bucket/x")
    assert (error.reason, error.retry_after_s) == (Reason.STORE_UNAVAILABLE, 5.0)


# ---- the hub


def test_a_repository_becomes_a_version_of_the_commit_that_the_revision_meant(make_store, hub):
    sha = hub.commit("acme/support-lora", FILES | TRAINING)
    store = make_store(hub=Hub(hub.url, ""))
    version = run(store, "hf://acme/support-lora@main")
    assert paths(version) == ["README.md", CONFIG, WEIGHTS]
    assert version.lineage.notes == f"imported from hf://acme/support-lora@main at {sha}"
    assert not any("optimizer" in path for path, _, _ in hub.requests)
    newer = hub.commit("acme/support-lora", adapter_files(lora(layer(1, "mlp.up_proj"))))
    assert run(store, "hf://acme/support-lora").lineage.notes.endswith(f" at {newer}")
    assert run(store, f"hf://acme/support-lora@{sha}").key == version.key
    assert store.check_integrity() == []


def test_the_token_goes_to_the_hub_and_to_nobody_else(make_store, hub):
    hub.private.add("acme/secret")
    hub.commit("acme/secret", FILES)
    assert (
        refusal(make_store(hub=Hub(hub.url, "")), "hf://acme/secret@main").reason is Reason.SOURCE_NOT_FOUND
    )
    assert not any(authorization for _, authorization, _ in hub.requests)
    hub.requests.clear()
    run(make_store(hub=Hub(hub.url, TOKEN)), "hf://acme/secret@main")
    by_place = {path.split("/")[1]: authorization for path, authorization, _ in hub.requests}
    assert by_place == {"api": f"Bearer {TOKEN}", "acme": f"Bearer {TOKEN}", "cdn": ""}


def test_a_read_that_broke_off_goes_on_where_it_did_even_if_the_branch_moved(make_store, hub):
    store = make_store(hub=Hub(hub.url, ""))
    files = {CONFIG: FILES[CONFIG], WEIGHTS: FILES[WEIGHTS]}
    sha = hub.commit("acme/support-lora", files)
    hub.drop_after = len(files[CONFIG]) - 5
    assert refusal(store, "hf://acme/support-lora@main", request_id="r").reason is Reason.STORE_UNAVAILABLE
    hub.requests.clear()
    version = run(store, "hf://acme/support-lora@main", request_id="r")
    assert version.lineage.notes.endswith(sha)
    assert [span for path, _, span in hub.requests if path.endswith(CONFIG)] == [
        f"bytes={len(files[CONFIG]) - 5}-"
    ]
    hub.commit("acme/support-lora", adapter_files(lora(layer(1, "mlp.up_proj"))))
    assert run(store, "hf://acme/support-lora@main", request_id="r") == version


def test_what_the_hub_lacks_or_refuses_is_said_so(make_store, hub):
    hub.commit("acme/support-lora", FILES)
    store = make_store(hub=Hub(hub.url, ""))
    assert "no such repository" in refusal(store, "hf://acme/nothing@main").message
    assert "no revision v9" in refusal(store, "hf://acme/support-lora@v9").message
    assert refusal(store, "hf://acme/nothing@main").reason is Reason.SOURCE_NOT_FOUND


def test_bytes_other_than_the_hub_promised_are_dropped(make_store, hub, tmp_path):
    hub.commit("acme/support-lora", FILES)
    hub.lies[WEIGHTS] = sha256(b"something else")
    store = make_store(hub=Hub(hub.url, ""))
    error = refusal(store, "hf://acme/support-lora@main", request_id="r")
    assert error.reason is Reason.CHECKSUM_MISMATCH
    assert len(store.versions.list(NAME, 0, "").rows) == 0


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://x/"])
def test_a_redirect_to_another_scheme_is_not_followed(make_store, hub, to):
    hub.commit("acme/support-lora", FILES)
    hub.redirect_to = to
    error = refusal(make_store(hub=Hub(hub.url, "")), "hf://acme/support-lora@main")
    assert (error.reason, "redirects" in error.message) == (Reason.SOURCE_NOT_FOUND, True)


def test_a_redirect_without_end_ends(make_store, hub):
    sha = hub.commit("acme/support-lora", FILES)
    hub.redirect_to = f"{hub.url}/acme/support-lora/resolve/{sha}/{WEIGHTS}"
    error = refusal(make_store(hub=Hub(hub.url, "")), "hf://acme/support-lora@main")
    assert "without end" in error.message


def test_a_hub_that_is_away_is_worth_another_try(make_store):
    error = refusal(make_store(hub=Hub("http://127.0.0.1:9", "")), "hf://acme/support-lora@main")
    assert (error.reason, error.retry_after_s) == (Reason.STORE_UNAVAILABLE, 5.0)
