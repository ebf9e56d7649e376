"""Turns protobuf messages into the client's frozen dataclasses, by field name.

Knows no message in particular: a dataclass field `x: T` is read from the message's field `x`.
"""

import base64
import dataclasses
import types
import typing
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from typing import Any, TypeVar

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

V = TypeVar("V")


def decode(kind: type[V], message: Message) -> V:
    """A `kind` filled from `message`, nested ones included. Fields the dataclass lacks are left out.

    Timestamps become aware datetimes in UTC (None if absent), enums become their StrEnum by name,
    repeated fields tuples, maps dicts.
    """
    return kind(**{name: _value(hint, message, name) for name, hint in _fields(kind)})  # type: ignore[arg-type]


@cache
def _fields(kind: type[Any]) -> tuple[tuple[str, Any], ...]:
    hints = typing.get_type_hints(kind)
    return tuple(hints.items())


def _value(hint: Any, message: Message, name: str) -> Any:
    raw = getattr(message, name)
    if hint == datetime | None:
        return _time(raw) if message.HasField(name) else None
    if isinstance(hint, types.UnionType):
        (hint,) = (member for member in hint.__args__ if member is not type(None))
        return _scalar(hint, message, name, raw) if message.HasField(name) else None
    if typing.get_origin(hint) is tuple:
        item = typing.get_args(hint)[0]
        is_nested = dataclasses.is_dataclass(item)
        return tuple(decode(typing.cast(type[Any], item), each) if is_nested else each for each in raw)
    if typing.get_origin(hint) is dict:
        return dict(raw)
    return _scalar(hint, message, name, raw)


def _scalar(hint: Any, message: Message, name: str, raw: Any) -> Any:
    if dataclasses.is_dataclass(hint):
        return decode(typing.cast(type[Any], hint), raw)
    if issubclass(hint, StrEnum):
        number = message.DESCRIPTOR.fields_by_name[name].enum_type.values_by_number.get(raw)  # type: ignore[union-attr]
        # A number that a newer server knows and this client does not is the enum's zero value.
        return hint(number.name) if number and number.name in hint.__members__ else next(iter(hint))
    return raw


def _time(raw: Timestamp) -> datetime:
    return raw.ToDatetime(tzinfo=UTC)


def to_json(value: Any) -> Any:
    """`value` as what `json.dumps` takes: dataclasses as objects, datetimes as ISO 8601, bytes in base64."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {key: to_json(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(each) for each in value]
    return value
