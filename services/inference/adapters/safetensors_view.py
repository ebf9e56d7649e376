"""The tensors in the bytes of a safetensors file, without copying them.

Format: 8 bytes with the header's length, the header in JSON, the data. Must not know adapters.
"""

import json
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from services.inference.adapters.read_buffers import Bytes

MAX_HEADER_BYTES = 100_000_000
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def view_tensors(content: Bytes) -> dict[str, Tensor]:
    """Every tensor by name, in the header's order: views of `content`.

    Raises ValueError, saying what is wrong.
    """
    header, start = _header(content)
    data = content[start:]
    address = data.ctypes.data
    return {
        name: _view(data, address, name, entry) for name, entry in header.items() if name != "__metadata__"
    }


def _header(content: Bytes) -> tuple[dict[str, Any], int]:
    size = int.from_bytes(content[:8].tobytes(), "little")
    if len(content) < 8 or size > min(MAX_HEADER_BYTES, len(content) - 8):
        raise ValueError("the header's length does not fit the file")
    try:
        header = json.loads(content[8 : 8 + size].tobytes(), object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("the header is nested too deeply") from None
    if not isinstance(header, dict):
        raise ValueError("the header is no JSON object")
    return header, 8 + size


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is in the header twice")
    return found


def _view(data: Bytes, address: int, name: str, entry: Any) -> Tensor:
    try:
        dtype, shape, (begin, end) = _DTYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
        sizes_are_whole = all(type(size) is int and size >= 0 for size in (*shape, begin, end))
    except (KeyError, TypeError, ValueError):
        sizes_are_whole = False
    if not sizes_are_whole:
        raise ValueError(f"{name[:80]} has no dtype, shape and offsets that are known")
    count = math.prod(shape)
    if end - begin != count * dtype.itemsize or end > len(data):
        raise ValueError(f"{name[:80]} does not lie where the header says")
    if count == 0:
        return torch.empty(shape, dtype=dtype)
    if (address + begin) % dtype.itemsize:
        # Few writers leave values unaligned; torch must not see them so.
        copied = np.frombuffer(bytearray(data[begin:end]), dtype=np.uint8)
        return torch.frombuffer(copied, dtype=dtype, count=count).view(shape)
    return torch.frombuffer(data, dtype=dtype, count=count, offset=begin).view(shape)
