"""Signatures over manifests: the client's bytes are the services' bytes, and anything altered is refused."""

import hashlib
import json
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.registry import VersionFile
from client.signing import SigningKey, manifest
from services.common.errors import Code, Reason, ServiceError
from services.common.manifest_signature import Manifest, Signature, check_signature

CONFIG = ("adapter_config.json", 7, "c" * 64)
WEIGHTS = ("adapter_model.safetensors", 99, "a" * 64)
MANIFEST = Manifest("tenants/acme/adapters/support", "acme/tiny", "b" * 64, (WEIGHTS, CONFIG))
PRIVATE = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
PUBLIC = PRIVATE.public_key().public_bytes_raw()
TRUSTED = {"ci": PUBLIC, "release": b"r" * 32}
GOOD = Signature("ci", PRIVATE.sign(MANIFEST.to_bytes()))


def refusal(manifest=MANIFEST, signature=GOOD, trusted=TRUSTED, required=True):
    with pytest.raises(ServiceError) as caught:
        check_signature("acme/support@1", manifest, signature, trusted, required=required)
    error = caught.value
    assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, Reason.BAD_SIGNATURE)
    return error.message


def test_the_signed_bytes_are_what_the_docs_say():
    assert json.loads(MANIFEST.to_bytes()) == {
        "adapter": "tenants/acme/adapters/support",
        "adapter_config_sha256": "c" * 64,
        "base_model": "acme/tiny",
        "base_model_digest": "b" * 64,
        "files": [list(CONFIG), list(WEIGHTS)],
        "format": "multilora-manifest-1",
    }
    digest = hashlib.sha256(MANIFEST.to_bytes()).hexdigest()
    # Whoever changes the format changes what every signature in the world is over.
    assert digest == "1ece88427e540643a1cbf88acb1322e9d41772cb568643ff2f181d1688548a53"


def test_the_client_signs_the_same_bytes():
    files = [VersionFile(path, size_bytes, sha256) for path, size_bytes, sha256 in MANIFEST.files]
    signed = manifest(MANIFEST.adapter, MANIFEST.base_model, MANIFEST.base_model_digest, files)
    assert signed == MANIFEST.to_bytes()
    by_client = SigningKey("ci", PRIVATE).sign(signed)
    check_signature("acme/support@1", MANIFEST, Signature("ci", by_client.signature), TRUSTED, required=True)


def test_a_good_signature_passes_whether_asked_for_or_not():
    for required in (True, False):
        check_signature("acme/support@1", MANIFEST, GOOD, TRUSTED, required=required)


def test_none_is_refused_only_where_it_is_asked_for():
    check_signature("acme/support@1", MANIFEST, None, TRUSTED, required=False)
    assert "is not signed" in refusal(signature=None)
    assert "(ci, release)" in refusal(signature=None)
    assert "(none)" in refusal(signature=None, trusted={})


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize(
    "altered",
    [
        replace(MANIFEST, adapter="tenants/acme/adapters/other"),
        replace(MANIFEST, adapter="tenants/evil/adapters/support"),
        replace(MANIFEST, base_model="acme/other"),
        replace(MANIFEST, base_model_digest="d" * 64),
        replace(MANIFEST, files=(WEIGHTS,)),
        replace(MANIFEST, files=(CONFIG, WEIGHTS, ("README.md", 1, "e" * 64))),
        replace(MANIFEST, files=(CONFIG, (WEIGHTS[0], 99, "f" * 64))),
        replace(MANIFEST, files=(CONFIG, (WEIGHTS[0], 98, WEIGHTS[2]))),
        replace(MANIFEST, files=(("adapter_config.json", 7, "0" * 64), WEIGHTS)),
    ],
    ids=lambda altered: altered.adapter[-8:],
)
def test_whatever_is_altered_is_refused(altered, required):
    assert "does not have the files, name or base model" in refusal(manifest=altered, required=required)


def test_a_key_that_is_unknown_or_was_taken_back_is_refused():
    assert "'ci', which is not trusted" in refusal(trusted={"release": PUBLIC})
    assert "'CI', which is not trusted" in refusal(signature=replace(GOOD, key_id="CI"))


def test_another_keys_signature_and_bytes_that_are_none_are_refused():
    other = Ed25519PrivateKey.from_private_bytes(b"o" * 32).sign(MANIFEST.to_bytes())
    for signature in (other, b"", b"x", GOOD.signature + b"\0", GOOD.signature[::-1]):
        assert "does not have" in refusal(signature=Signature("ci", signature))
    assert "does not have" in refusal(trusted={"ci": b"short"})


def test_files_in_any_order_are_the_same_manifest():
    assert replace(MANIFEST, files=MANIFEST.files[::-1]).to_bytes() == MANIFEST.to_bytes()
