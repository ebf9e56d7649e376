import hashlib
import random

from services.adapter_store.hash_state import Sha256, load_library


def test_goes_on_at_any_block_as_if_it_had_never_stopped():
    library, moments = load_library(), random.Random(1)
    data = moments.randbytes(10_000)
    for _ in range(50):
        num_bytes = moments.randrange(len(data) // 64) * 64
        first = Sha256(library)
        first.update(data[:num_bytes])
        second = Sha256(library, first.state(), num_bytes)
        for start in range(num_bytes, len(data), 777):
            second.update(data[start : start + 777])
        assert second.hexdigest() == hashlib.sha256(data).hexdigest()


def test_counts_more_bits_than_fit_one_word():
    library = load_library()
    whole, chunk = Sha256(library), bytes(1 << 20)
    reference = hashlib.sha256()
    for _ in range(513):
        whole.update(chunk)
        reference.update(chunk)
    resumed = Sha256(library, whole.state(), 513 << 20)
    resumed.update(b"end")
    reference.update(b"end")
    assert resumed.hexdigest() == reference.hexdigest()
