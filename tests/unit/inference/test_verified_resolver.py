"""What a store could say, honest or not, and what is let through."""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.common.errors import Code, Reason, ServiceError
from services.common.manifest_signature import Manifest, Signature
from services.inference.request import AdapterFile, AdapterKey, ResolvedAdapter, adapter_key
from services.inference.signing_rules import PinnedKeys, SigningRules, read_trusted_keys
from services.inference.tenant_directory import TenantDirectory
from services.inference.verified_resolver import VerifiedResolver
from tests.fakes import FakeStore

PRIVATE = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
PUBLIC = PRIVATE.public_key().public_bytes_raw()
STRANGER = Ed25519PrivateKey.from_private_bytes(b"s" * 32)
FILES = (
    AdapterFile("adapter_config.json", 7, "c" * 64),
    AdapterFile("adapter_model.safetensors", 99, "a" * 64),
)
DIGEST = "d" * 64
OTHER = "tenants/acme/adapters/other"
SUPPORT = "tenants/acme/adapters/support"
STRICT = SigningRules({"ci": PUBLIC}, required=True)


def sign(adapter=SUPPORT, files=FILES, base="demo", digest=DIGEST, private=PRIVATE, key_id="ci"):
    rows = tuple((file.path, file.size_bytes, file.sha256) for file in files)
    return Signature(key_id, private.sign(Manifest(adapter, base, digest, rows).to_bytes()))


def resolved(signature, files=FILES, version=f"{SUPPORT}/versions/3"):
    return ResolvedAdapter(AdapterKey(adapter_key(files)), version, 8, files, signature)


def resolver(adapter, rules=STRICT, name="acme/support"):
    store = FakeStore({name: adapter})
    store.rules["acme"] = rules
    made = VerifiedResolver(store, TenantDirectory(store.tenant), "demo")
    made.open(DIGEST)
    return made, store


async def refusal(adapter, rules=STRICT, name="acme/support"):
    made, _ = resolver(adapter, rules, name)
    with pytest.raises(ServiceError) as caught:
        await made.resolve(name)
    assert (caught.value.code, caught.value.reason) == (Code.FAILED_PRECONDITION, Reason.BAD_SIGNATURE)
    return caught.value.message


@pytest.mark.parametrize("rules", [STRICT, replace(STRICT, required=False)])
@pytest.mark.parametrize("name", ["acme/support", "acme/support@staging", "acme/support@3", SUPPORT])
async def test_a_good_signature_passes_under_every_form_of_name(name, rules):
    adapter = resolved(sign())
    made, _ = resolver(adapter, rules, name)
    for _ in range(2):
        assert (await made.resolve(name)).adapter == adapter


async def test_unsigned_passes_only_where_nobody_asks():
    adapter = resolved(None)
    made, _ = resolver(adapter, SigningRules({"ci": PUBLIC}))
    assert (await made.resolve("acme/support")).adapter == adapter
    assert "is not signed" in await refusal(adapter)


TAMPERED = (FILES[0], replace(FILES[1], sha256="b" * 64))


@pytest.mark.parametrize(
    ("adapter", "words"),
    [
        (resolved(sign(), TAMPERED), "does not have the files"),
        (resolved(sign(), FILES[:1]), "does not have the files"),
        (resolved(sign(OTHER)), "does not have the files"),
        (resolved(sign(OTHER), version=f"{OTHER}/versions/3"), "is not that"),
        (resolved(sign(base="other")), "does not have the files"),
        (resolved(sign(digest="0" * 64)), "does not have the files"),
        (resolved(sign(private=STRANGER)), "does not have the files"),
        (resolved(sign(private=STRANGER, key_id="stranger")), "'stranger', which is not trusted"),
        (resolved(Signature("ci", b"")), "does not have the files"),
    ],
    ids=[
        "tampered", "fewer files", "replayed", "swapped", "other base", "other weights", "forged", "unknown",
        "no bytes",
    ],
)  # fmt: skip
@pytest.mark.parametrize("required", [True, False])
async def test_whatever_is_not_what_was_signed_is_refused(adapter, words, required):
    assert words in await refusal(adapter, replace(STRICT, required=required))


async def test_a_version_other_than_the_one_named_is_refused():
    assert "is not that" in await refusal(
        resolved(sign(), version=f"{SUPPORT}/versions/2"), name="acme/support@3"
    )


async def test_a_key_that_is_taken_back_is_no_good_at_once_although_it_was():
    made, store = resolver(resolved(sign()))
    rules = TenantDirectory(store.tenant)
    made = VerifiedResolver(store, rules, "demo")
    made.open(DIGEST)
    await made.resolve("acme/support")
    store.rules["acme"] = SigningRules({"new": PUBLIC}, required=True)
    await made.resolve("acme/support")  # remembered
    rules.change("TENANT_UPDATED", "tenants/acme")
    with pytest.raises(ServiceError, match="'ci', which is not trusted"):
        await made.resolve("acme/support")
    store.rules["acme"] = SigningRules({"ci": STRANGER.public_key().public_bytes_raw()})
    rules.forget_all()
    with pytest.raises(ServiceError, match="does not have the files"):
        await made.resolve("acme/support")


async def test_pinned_keys_hold_whatever_the_store_says():
    store = FakeStore({"acme/support": resolved(None), "beta/x": resolved(None)})
    store.rules["acme"] = SigningRules({"evil": STRANGER.public_key().public_bytes_raw()})
    made = VerifiedResolver(store, PinnedKeys({"acme": {"ci": PUBLIC}}), "demo")
    made.open(DIGEST)
    for name, keys in (("acme/support", "(ci)"), ("beta/x", "(none)")):
        with pytest.raises(ServiceError) as caught:
            await made.resolve(name)
        assert keys in caught.value.message or "is not that" in caught.value.message
    store._adapters["acme/support"] = resolved(sign(private=STRANGER, key_id="evil"))
    with pytest.raises(ServiceError, match="'evil', which is not trusted"):
        await made.resolve("acme/support")
    store._adapters["acme/support"] = resolved(sign())
    assert (await made.resolve("acme/support")).adapter.signature == sign()


def test_a_file_of_keys_is_read_and_its_bad_lines_are_named(tmp_path):
    path = tmp_path / "keys"
    path.write_text(f"# comment\n\nacme ci {PUBLIC.hex()}  # the pipeline\n* all {PUBLIC.hex()}\n")
    keys = read_trusted_keys(path)
    assert keys._keys == {"acme": {"ci": PUBLIC}, "*": {"all": PUBLIC}}
    for line, words in (
        ("acme ci", "line 1: give TENANT"),
        ("acme ci zz", "line 1: PUBLIC_KEY"),
        (f"ACME ci {PUBLIC.hex()}", "line 1: TENANT"),
        (f"acme ci {PUBLIC.hex()}\nacme ci {PUBLIC.hex()}", "line 2: acme has a key ci"),
        ("# nothing", "has no key"),
    ):
        path.write_text(line)
        with pytest.raises(ValueError, match=words):
            read_trusted_keys(path)
