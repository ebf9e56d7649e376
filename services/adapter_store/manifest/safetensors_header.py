"""Reads a safetensors header as if its writer were hostile.

Source: the format's README at https://github.com/huggingface/safetensors: 8 bytes little-endian header
length N, N bytes of JSON, then the data; `data_offsets` count from the start of the data.
"""

import math
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO

from services.adapter_store.manifest.file_list import WEIGHTS_PATH
from services.adapter_store.manifest.refusals import malformed
from services.adapter_store.manifest.strict_json import parse_object
from services.common.errors import ServiceError

# A header line is about 120 bytes a tensor: room for 30,000 tensors, and little to parse if it is a lie.
MAX_HEADER_BYTES = 4 << 20
MAX_DIMENSIONS = 8

DTYPE_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32,
    "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor: its bytes are file[begin:end], offsets counted from the start of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def num_elements(self) -> int:
        """The product of the shape."""
        return math.prod(self.shape)


def read_header(file: BinaryIO, size_bytes: int) -> dict[str, TensorEntry]:
    """The tensors of a safetensors file of `size_bytes`, by name; together they cover its data exactly.

    Raises INVALID_ADAPTER naming the tensor, or the file if the header itself is wrong.
    """
    data_start, header = _read_json(file, size_bytes)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _bad_file("its __metadata__ is not a map of strings")
    tensors = {name: _entry(name, value, data_start) for name, value in header.items()}
    _check_coverage(tensors, data_start, size_bytes)
    return tensors


def _read_json(file: BinaryIO, size_bytes: int) -> tuple[int, dict[str, Any]]:
    if size_bytes < 8:
        raise _bad_file(f"it has only {size_bytes} bytes")
    file.seek(0)
    (header_bytes,) = struct.unpack("<Q", file.read(8))
    if header_bytes > size_bytes - 8:
        raise _bad_file(f"its header claims {header_bytes} bytes, but the file has {size_bytes}")
    if header_bytes > MAX_HEADER_BYTES:
        raise _bad_file(f"its header has {header_bytes} bytes, over the {MAX_HEADER_BYTES} allowed")
    try:
        header = parse_object(file.read(header_bytes))
    except ValueError as error:
        raise _bad_file(f"its header is not right: {error}") from error
    return 8 + header_bytes, header


def _entry(name: str, value: Any, data_start: int) -> TensorEntry:
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise _bad_tensor(name, "its entry does not have exactly dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise _bad_tensor(name, "its dtype is unknown")
    if not _are_sizes(shape) or len(shape) > MAX_DIMENSIONS:
        raise _bad_tensor(name, f"its shape is not a list of at most {MAX_DIMENSIONS} sizes")
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _bad_tensor(name, "its data_offsets are not [begin, end]")
    begin, end = offsets
    if math.prod(shape) * DTYPE_BITS[dtype] // 8 != end - begin:
        raise _bad_tensor(name, f"shape {shape} of {dtype} does not fill its {end - begin} bytes")
    return TensorEntry(name, dtype, tuple(shape), data_start + begin, data_start + end)


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v < 1 << 48 for v in values)


def _check_coverage(tensors: dict[str, TensorEntry], data_start: int, size_bytes: int) -> None:
    covered = data_start
    for tensor in sorted(tensors.values(), key=lambda entry: (entry.begin, entry.end)):
        if tensor.end > size_bytes:
            raise _bad_tensor(tensor.name, "its data_offsets reach past the end of the file")
        if tensor.begin < covered:
            raise _bad_tensor(tensor.name, "its data_offsets overlap another tensor's")
        if tensor.begin > covered:
            raise _bad_tensor(tensor.name, f"{tensor.begin - covered} bytes before it belong to no tensor")
        covered = tensor.end
    if covered != size_bytes:
        raise _bad_file(f"its last {size_bytes - covered} bytes belong to no tensor")


def _bad_tensor(name: str, what: str) -> ServiceError:
    return malformed(name, f"{what}; save the adapter again with PEFT's save_pretrained")


def _bad_file(what: str) -> ServiceError:
    return malformed(
        WEIGHTS_PATH,
        f"is no whole safetensors file: {what}; save the adapter again with PEFT's save_pretrained",
    )
