import dataclasses
import enum
import json
import typing
from datetime import UTC, datetime

import pytest

from client import access, events, registry, serving
from client.events import Finished, FinishReason
from client.registry import Adapter, AdapterVersion, VersionState
from client.serving import ResidentAdapter, Stats
from client.wire import decode, to_json
from protos.multilora.v1 import adapter_store_pb2 as store_pb
from protos.multilora.v1 import inference_pb2 as inference_pb

RENAMED = {
    "Unloaded": "UnloadAdapterResponse",
    "CreatedToken": "CreateTokenResponse",
    "ChangeBatch": "WatchResponse",
}


def values_of(module):
    return [
        (value, name)
        for name, value in vars(module).items()
        if dataclasses.is_dataclass(value) and value.__module__ == module.__name__
    ]


def enums_of(module):
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, enum.StrEnum) and value.__module__ == module.__name__
    ]


MODULES = (access, events, registry, serving)


@pytest.mark.parametrize(
    ("value", "name"), [pair for module in MODULES for pair in values_of(module)], ids=lambda v: str(v)
)
def test_every_value_has_exactly_the_fields_of_its_message(value, name):
    name = RENAMED.get(name, name)
    message = getattr(store_pb, name, None) or getattr(inference_pb, name)
    assert set(typing.get_type_hints(value)) == set(message.DESCRIPTOR.fields_by_name)
    decode(value, message())


@pytest.mark.parametrize("kind", [kind for module in MODULES for kind in enums_of(module)])
def test_every_enum_has_exactly_the_names_of_the_wire(kind):
    wire = getattr(store_pb, kind.__name__, None) or getattr(inference_pb, kind.__name__)
    assert list(kind.__members__) == wire.keys()


def test_a_full_message_is_decoded_with_all_it_holds():
    message = store_pb.Adapter(
        name="tenants/acme/adapters/reverse",
        labels={"team": "search"},
        aliases=[store_pb.Alias(name="production", version=3)],
        latest_version=4,
    )
    message.create_time.FromDatetime(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    adapter = decode(Adapter, message)
    assert adapter.labels == {"team": "search"}
    assert [(alias.name, alias.version, alias.update_time) for alias in adapter.aliases] == [
        ("production", 3, None)
    ]
    assert adapter.create_time == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert adapter.update_time is None


def test_enums_and_nested_values():
    version = decode(
        AdapterVersion, store_pb.AdapterVersion(state=store_pb.DISABLED, target_modules=["q", "v"])
    )
    assert version.state is VersionState.DISABLED
    assert version.target_modules == ("q", "v")
    finished = decode(Finished, inference_pb.Finished(reason=inference_pb.LENGTH))
    assert finished.reason is FinishReason.LENGTH
    assert finished.timing.ttft_s == 0.0
    stats = decode(Stats, inference_pb.Stats(pool=inference_pb.PoolStats(total_pages=9)))
    assert stats.pool.total_pages == 9


def test_an_enum_number_from_a_newer_server_is_the_unspecified_one():
    message = inference_pb.ResidentAdapter.FromString(b"\x18\x63")
    assert message.residency == 99
    assert decode(ResidentAdapter, message).residency.value == "RESIDENCY_UNSPECIFIED"


def test_json_round_trips_through_the_json_module():
    version = decode(AdapterVersion, store_pb.AdapterVersion(state=store_pb.ACTIVE, labels={"a": "b"}))
    shown = json.loads(json.dumps(to_json(version)))
    assert shown["state"] == "ACTIVE"
    assert shown["labels"] == {"a": "b"}
    assert shown["create_time"] is None
    assert to_json(datetime(2026, 1, 2, tzinfo=UTC)) == "2026-01-02T00:00:00+00:00"
