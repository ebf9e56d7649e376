import contextlib
import json
import struct

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from services.inference.adapters.safetensors_view import view_tensors


def array(content):
    return np.frombuffer(bytearray(content), dtype=np.uint8)


def file(header, data=b"", size=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return array(struct.pack("<Q", len(text) if size is None else size) + text + data)


def entry(**changes):
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8])
def test_what_safetensors_writes_is_read_without_a_copy(dtype):
    tensors = {"a": torch.arange(6).reshape(2, 3).to(dtype), "b": torch.ones(5, dtype=dtype)}
    content = array(save(tensors, metadata={"format": "pt"}))
    found = view_tensors(content)
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(found[name], tensor)
        assert content.ctypes.data <= found[name].data_ptr() < content.ctypes.data + len(content)


def test_values_that_are_not_aligned_are_read_all_the_same():
    content = file({"x": entry()}, struct.pack("<2f", 1.5, -2.0))
    shifted = array(b"\0" + content.tobytes())[1:]
    assert view_tensors(shifted)["x"].tolist() == [1.5, -2.0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (array(b""), "length"),
        (array(b"\x01\0\0"), "length"),
        (file({}, size=1 << 60), "length"),
        (file(b"[1]"), "no JSON object"),
        (file(b"{"), "Expecting"),
        (file(b"\xff"), "decode"),
        (file(b"[" * 100_000), "nested"),
        (file(b'{"x": 1, "x": 2}'), "twice"),
        (file({"x": 3}), "x has no dtype"),
        (file({"x": entry(dtype="F8")}, bytes(8)), "x has no dtype"),
        (file({"x": entry(shape=[-2])}, bytes(8)), "x has no dtype"),
        (file({"x": entry(shape=[True])}, bytes(8)), "x has no dtype"),
        (file({"x": entry(data_offsets=[0])}, bytes(8)), "x has no dtype"),
        (file({"x": entry()}, bytes(7)), "does not lie"),
        (file({"x": entry(shape=[3])}, bytes(8)), "does not lie"),
        (file({"x": entry(data_offsets=[8, 0])}, bytes(8)), "does not lie"),
        (file({"x": entry(data_offsets=[4, 12])}, bytes(8)), "does not lie"),
    ],
)
def test_a_file_that_lies_is_refused(content, words):
    with pytest.raises(ValueError, match=words):
        view_tensors(content)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content):
    with contextlib.suppress(ValueError):
        view_tensors(array(content))
