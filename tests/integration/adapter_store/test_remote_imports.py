"""Imports from a real S3 server, and from a server that speaks the hub's protocol."""

import io

import pytest

from services.adapter_store.blobs.s3_place import parse_endpoint
from services.adapter_store.domain.version import VersionState
from services.adapter_store.imports.hub_source import Hub
from services.adapter_store.imports.s3_source import S3
from services.common.errors import Reason
from services.common.settings import S3Credentials
from tests.adapter_files import CONFIG, WEIGHTS, adapter_files, layer, lora, sha256
from tests.hub_server import TOKEN, running_hub
from tests.integration.adapter_store.import_world import (
    FILES,
    NAME,
    TRAINING,
    paths,
    refusal,
    run,
)
from tests.s3_server import ACCESS_KEY, BUCKET, SECRET_KEY


@pytest.fixture
def hub():
    with running_hub() as hub:
        yield hub


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
