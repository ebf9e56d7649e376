import contextlib
import io
import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from services.adapter_store.manifest.safetensors_header import MAX_HEADER_BYTES, read_header
from services.common.errors import Code, Reason, ServiceError
from tests.adapter_files import WEIGHTS, lora, safetensors, with_header


def read(data):
    return read_header(io.BytesIO(data), len(data))


def refusal(data):
    with pytest.raises(ServiceError) as caught:
        read(data)
    assert (caught.value.code, caught.value.reason) == (Code.INVALID_ARGUMENT, Reason.INVALID_ADAPTER)
    assert "save" in caught.value.message
    return caught.value


def entry(begin=0, end=4, dtype="F32", shape=(1,)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def built(entries, data=b""):
    return with_header(json.dumps(entries).encode(), data)


def test_what_the_library_writes_reads_back():
    tensors = lora("model.layers.0.mlp.up_proj")
    data = save(tensors, metadata={"format": "pt"})
    found = read(data)
    assert found.keys() == tensors.keys()
    for name, array in tensors.items():
        assert found[name].shape == array.shape
        assert np.array_equal(
            np.frombuffer(data[found[name].begin : found[name].end], np.float32), array.ravel()
        )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"1234567",
        struct.pack("<Q", 0),
        struct.pack("<Q", 1 << 63),
        struct.pack("<Q", 100) + b"{}",
        with_header(b"{"),
        with_header(b"[]"),
        with_header(b"null"),
        with_header(b"\xff\xfe"),
        with_header(b"[" * 100_000),
        with_header(b'{"a":' * 50_000),
        with_header(b'{"__metadata__":{"a":1}}'),
        with_header(b'{"__metadata__":[]}'),
        with_header(b"{}", b"left over"),
        with_header(b'{"x":' + b"9" * 5000 + b"}"),
        with_header(b'{"x":NaN}'),
    ],
    ids=range(16),
)
def test_headers_that_are_no_headers(data):
    assert refusal(data).field in (WEIGHTS, "x")


def test_endless_numbers_are_refused_in_our_own_words():
    message = refusal(with_header(b'{"x":' + b"9" * 5000 + b"}")).message
    assert "too many digits" in message
    assert "sys." not in message


def test_absurd_header_length():
    assert str(MAX_HEADER_BYTES) in refusal(with_header(b" " * (MAX_HEADER_BYTES + 1))).message


def test_duplicate_keys():
    one = json.dumps(entry())
    assert "twice" in refusal(with_header(f'{{"a":{one},"a":{one}}}'.encode(), b"1234")).message
    assert "twice" in refusal(with_header(b'{"a":{"dtype":"F32","dtype":"F16"}}')).message


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (7, "exactly"),
        ({"dtype": "F32", "shape": [1]}, "exactly"),
        (entry() | {"more": 1}, "exactly"),
        (entry(dtype="F33"), "dtype"),
        (entry(dtype=4), "dtype"),
        (entry() | {"shape": 1}, "shape"),
        (entry() | {"shape": [1.0]}, "shape"),
        (entry() | {"shape": [True]}, "shape"),
        (entry(shape=(-1, -1)), "shape"),
        (entry(shape=(1,) * 9), "shape"),
        (entry(shape=(1 << 48,)), "shape"),
        (entry() | {"data_offsets": [0]}, "data_offsets"),
        (entry() | {"data_offsets": [0, "4"]}, "data_offsets"),
        (entry(begin=4, end=0), "data_offsets"),
        (entry(begin=-4, end=0), "data_offsets"),
        (entry(shape=(2,)), "fill"),
        (entry(end=1 << 40, shape=(1 << 38,)), "past the end"),
    ],
)
def test_bad_entries_name_the_tensor(bad, says):
    error = refusal(built({"bad": bad}, b"1234"))
    assert error.field == "bad"
    assert says in error.message


def test_overlap_hole_and_tail():
    overlap = built({"a": entry(0, 4), "b": entry(2, 6)}, b"123456")
    assert (refusal(overlap).field, "overlap" in refusal(overlap).message) == ("b", True)
    same = built({"a": entry(0, 4), "b": entry(0, 4)}, b"1234")
    assert "overlap" in refusal(same).message
    hole = built({"a": entry(0, 4), "b": entry(8, 12)}, b"x" * 12)
    assert (refusal(hole).field, "4 bytes before" in refusal(hole).message) == ("b", True)
    tail = built({"a": entry(0, 4)}, b"x" * 12)
    assert (refusal(tail).field, "last 8 bytes" in refusal(tail).message) == (WEIGHTS, True)


def test_a_hostile_name_stays_short_and_printable():
    error = refusal(built({"\ud800\n" * 5000: 7}, b""))
    assert len(error.message) < 500
    error.message.encode()
    error.field.encode()
    assert error.message.isprintable()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
SIZES = st.lists(st.integers(-2, 9), max_size=3)
ENTRIES = st.dictionaries(
    st.sampled_from(["a", "b", "base_model.model.lm_head.lora_A.weight", "__metadata__"]),
    st.fixed_dictionaries(
        {"dtype": st.sampled_from(["F32", "BF16", "U8", "??"]), "shape": SIZES, "data_offsets": SIZES}
    )
    | JSON,
    max_size=4,
)
HEADERS = (
    st.binary(max_size=64)
    | JSON.map(lambda v: json.dumps(v).encode())
    | ENTRIES.map(lambda v: json.dumps(v).encode())
)


@settings(max_examples=300, deadline=None)
@given(header=HEADERS, length=st.none() | st.integers(0, (1 << 64) - 1), data=st.binary(max_size=64))
def test_no_header_raises_anything_but_a_service_error(header, length, data):
    file = struct.pack("<Q", len(header) if length is None else length) + header + data
    try:
        tensors = read(file)
    except ServiceError:
        return
    # What is accepted lies in the file, whole and without overlap.
    assert sum(t.end - t.begin for t in tensors.values()) == len(file) - 8 - len(header)
    assert all(8 + len(header) <= t.begin <= t.end <= len(file) for t in tensors.values())


@settings(max_examples=100, deadline=None)
@given(position=st.integers(0, 300), value=st.integers(0, 255))
def test_one_changed_byte_of_a_real_file(position, value):
    data = bytearray(safetensors(lora("model.layers.0.self_attn.q_proj")))
    data[position % len(data)] = value
    with contextlib.suppress(ServiceError):
        read(bytes(data))
