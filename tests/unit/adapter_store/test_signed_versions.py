"""What the store does with signatures: refused early, refused at the end, kept for inference to verify."""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.registry import VersionFile
from client.signing import SigningKey, manifest
from services.adapter_store.domain.names import AdapterName
from services.adapter_store.domain.tenant import TrustedKey
from services.adapter_store.domain.version import Lineage, VersionState
from services.common.errors import Reason, ServiceError
from services.common.manifest_signature import Signature
from tests.adapter_files import BASE_MODEL, WEIGHTS, adapter_files, declared
from tests.unit.adapter_store.conftest import NAME, publish, send

FILES = adapter_files()
KEY = SigningKey("ci", Ed25519PrivateKey.from_private_bytes(b"k" * 32))
TRUSTED = TrustedKey("ci", KEY.public_key)


def signature(files=FILES, name=NAME, digest=BASE_MODEL.digest, key=KEY):
    rows = [VersionFile(file.path, file.size_bytes, file.sha256) for file in declared(files)]
    signed = key.sign(manifest(str(name), BASE_MODEL.name, digest, rows))
    return Signature(signed.key_id, signed.signature)


def trust(store, *keys, require=False):
    store.tenants.update(NAME.tenant, "", {"trusted_keys": keys, "require_signatures": require})


def start(store, files=FILES, signed=None, request_id=""):
    upload, _ = store.uploads.start(NAME, declared(files), {}, Lineage(), request_id, signature=signed)
    return upload


def refusal(call, *arguments):
    with pytest.raises(ServiceError) as caught:
        call(*arguments)
    assert caught.value.reason is Reason.BAD_SIGNATURE
    return caught.value.message


def test_a_good_signature_is_kept_with_the_digest_that_it_is_over(store):
    trust(store, TRUSTED, require=True)
    upload = start(store, signed=signature())
    send(store, upload.id, FILES)
    version = store.uploads.finish(upload.id)
    assert (version.signature, version.base_model_digest) == (signature(), BASE_MODEL.digest)
    assert store.versions.get(NAME, 1) == version


def test_without_a_signature_all_goes_on_unless_the_tenant_asks_for_one(store):
    assert publish(store).signature is None
    trust(store, TRUSTED, require=True)
    assert "is not signed" in refusal(start, store)
    assert len(store.versions.list(NAME, 0, "").rows) == 1


@pytest.mark.parametrize(
    ("signed", "words"),
    [
        (signature(FILES | {WEIGHTS: b"other bytes"}), "does not have the files"),
        (signature(name=AdapterName("acme", "other")), "does not have the files"),
        (signature(name=AdapterName("evil", "support")), "does not have the files"),
        (signature(digest="0" * 64), "does not have the files"),
        (signature(key=replace(KEY, key_id="stranger")), "'stranger', which is not trusted"),
        (Signature("ci", b"x" * 64), "does not have the files"),
    ],
    ids=["tampered files", "other adapter", "other tenant", "other base", "unknown key", "garbage"],
)
@pytest.mark.parametrize("require", [True, False])
def test_a_bad_signature_is_refused_before_bytes_flow_asked_for_or_not(store, signed, words, require):
    trust(store, TRUSTED, require=require)
    assert words in refusal(start, store, FILES, signed)
    assert not store.versions.list(NAME, 0, "").rows


def test_a_key_that_is_taken_back_meanwhile_makes_the_version_failed(store):
    trust(store, TRUSTED)
    upload = start(store, signed=signature(), request_id="once")
    send(store, upload.id, FILES)
    trust(store)
    words = refusal(store.uploads.finish, upload.id)
    assert "'ci', which is not trusted" in words
    version = store.versions.get(NAME, 1)
    assert (version.state, version.status_message) == (VersionState.FAILED, words)


def test_a_tenant_that_asks_for_signatures_meanwhile_gets_them(store):
    upload = start(store)
    send(store, upload.id, FILES)
    trust(store, TRUSTED, require=True)
    assert "is not signed" in refusal(store.uploads.finish, upload.id)


def test_the_same_request_with_another_signature_is_another_request(store):
    trust(store, TRUSTED)
    start(store, signed=signature(), request_id="once")
    with pytest.raises(ServiceError) as caught:
        start(store, request_id="once")
    assert caught.value.field == "request_id"


@pytest.mark.parametrize(
    ("signed", "field"),
    [(Signature("", b"x" * 64), "signature.key_id"), (Signature("ci", b"x" * 63), "signature.signature")],
)
def test_what_cannot_be_a_signature_is_refused_by_field(store, signed, field):
    with pytest.raises(ServiceError) as caught:
        start(store, signed=signed)
    assert caught.value.field == field
