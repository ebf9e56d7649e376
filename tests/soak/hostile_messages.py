"""Requests that no honest client makes: random bytes, mutated messages, and messages of hostile values."""

from random import Random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

MAX_DEPTH = 4
TEXTS = (
    "",
    "acme/support",
    "acme/support@3",
    "acme/support@latest",
    "acme/support@staging",
    "tenants/acme",
    "tenants/*",
    "tenants/acme/adapters/support",
    "tenants/acme/adapters/support/versions/1",
    "tenants/../adapters/x",
    "../../etc/passwd",
    "/etc/passwd",
    "acme/../../x",
    "a\x00b",
    "acme/support@99999999999999999999",
    "file:///etc",
    "s3://",
    "hf://../..@",
    "'; DROP TABLE versions; --",
    "\u202e\ufeff\U0001f600",
    "x" * 5000,
    "adapter_model.safetensors",
    "0" * 64,
    "mlt_x_y",
)
NUMBERS = (0, 1, -1, 2, 7, 1 << 20, (1 << 31) - 1, -(1 << 31), (1 << 63) - 1, -(1 << 63), 10 << 30)
REALS = (0.0, -0.0, 1.0, -1.0, 1e308, -1e308, float("inf"), float("-inf"), float("nan"), 1e-320)

_INTS_32 = (
    FieldDescriptor.CPPTYPE_INT32,
    FieldDescriptor.CPPTYPE_UINT32,
    FieldDescriptor.CPPTYPE_ENUM,
)
_UNSIGNED = (FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64)


def hostile_request(method: MethodDescriptor, random: Random) -> bytes:
    """One request for `method`, of any of the three kinds."""
    kind = random.random()
    if kind < 0.2:
        return random.randbytes(random.choice((0, 1, 7, 100, 5000)))
    data = bytearray(message(GetMessageClass(method.input_type), random).SerializeToString())
    if kind < 0.5 and data:
        for _ in range(random.randint(1, 8)):
            data[random.randrange(len(data))] = random.randrange(256)
        del data[random.randint(len(data) // 2, len(data)) :]
    return bytes(data)


def message(kind: type[Message], random: Random, depth: int = 0) -> Message:
    """A message of random fields."""
    made = kind()
    for field in kind.DESCRIPTOR.fields:
        if random.random() < 0.7:
            _fill(made, field, random, depth)
    return made


def _fill(made: Any, field: FieldDescriptor, random: Random, depth: int) -> None:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        _fill_map(getattr(made, field.name), field, random)
    elif field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
        if depth < MAX_DEPTH:
            for _ in range(random.randint(0, 3) if field.is_repeated else 1):
                target = getattr(made, field.name)
                target = target.add() if field.is_repeated else target
                target.MergeFrom(message(GetMessageClass(field.message_type), random, depth + 1))
    elif field.is_repeated:
        getattr(made, field.name).extend(_scalar(field, random) for _ in range(random.randint(0, 40)))
    else:
        setattr(made, field.name, _scalar(field, random))


def _fill_map(entries: Any, field: FieldDescriptor, random: Random) -> None:
    key, value = field.message_type.fields_by_name["key"], field.message_type.fields_by_name["value"]
    for _ in range(random.choice((0, 1, 3, 100))):
        entries[_scalar(key, random)] = _scalar(value, random)


def _scalar(field: FieldDescriptor, random: Random) -> Any:
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_STRING:
        text = random.choice(TEXTS)
        return text.encode() if field.type == FieldDescriptor.TYPE_BYTES else text
    if kind in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return random.choice(REALS)
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return random.random() < 0.5
    number = random.choice(NUMBERS)
    bits = 32 if kind in _INTS_32 else 64
    low = 0 if kind in _UNSIGNED else -(1 << (bits - 1))
    high = (1 << (bits - 1)) - 1
    return min(max(number, low), high)
