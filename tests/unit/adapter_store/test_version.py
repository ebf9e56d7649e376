import hashlib

from services.adapter_store.domain.version import VersionFile, adapter_key

A = VersionFile("a.json", 3, "a" * 64)
B = VersionFile("b.json", 4, "b" * 64)


def test_the_key_is_sha256_of_canonical_json():
    canonical = '[["a.json",3,"' + "a" * 64 + '"],["b.json",4,"' + "b" * 64 + '"]]'
    assert adapter_key([A, B]) == hashlib.sha256(canonical.encode()).hexdigest()


def test_the_key_ignores_order_and_sees_every_part():
    assert adapter_key([A, B]) == adapter_key([B, A])
    others = [
        [A],
        [A, VersionFile("c.json", 4, "b" * 64)],
        [A, VersionFile("b.json", 5, "b" * 64)],
        [A, VersionFile("b.json", 4, "c" * 64)],
    ]
    assert len({adapter_key(files) for files in [[A, B], *others]}) == 5
