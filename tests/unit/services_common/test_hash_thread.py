"""HashThread against hashlib over the same bytes."""

import contextlib
import hashlib

import pytest

from services.common.hash_thread import CHUNK_BYTES, HashThread


@pytest.mark.parametrize("sizes", [[], [1], [CHUNK_BYTES], [7, CHUNK_BYTES, 1, CHUNK_BYTES - 1] * 3])
def test_chunks_and_bytes_are_hashed_in_order(sizes):
    data = [bytes([number + 1]) * size for number, size in enumerate(sizes)]
    with HashThread() as hashing:
        for number, each in enumerate(data):
            if number % 2:
                hashing.add_bytes(each)
            else:
                chunk = hashing.free_chunk()
                chunk[: len(each)] = each
                hashing.add(chunk, len(each))
        assert hashing.hexdigest() == hashlib.sha256(b"".join(data)).hexdigest()


def test_leaving_early_ends_the_thread():
    with contextlib.suppress(KeyError), HashThread() as hashing:
        hashing.add_bytes(b"a")
        raise KeyError
    assert not hashing._thread.is_alive()
