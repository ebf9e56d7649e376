"""Counts by bucket, names as labels, and what Prometheus reads of them."""

from prometheus_client.exposition import generate_latest
from prometheus_client.registry import CollectorRegistry

from services.common.bounded_names import OTHER, BoundedNames
from services.common.histogram import Histogram
from services.common.metric_families import histogram, rpc_families
from services.common.metrics_server import _Collector
from services.common.rpc_meter import RpcMeter


def exposed(*families) -> list[str]:
    """The lines of an exposition, without comments."""
    registry = CollectorRegistry()
    registry.register(_Collector(lambda: families))
    return [line for line in generate_latest(registry).decode().splitlines() if line[0] != "#"]


def test_a_value_counts_in_the_first_bucket_that_holds_it_and_buckets_add_up():
    value = Histogram((1.0, 2.0))
    for seconds, times in ((1.0, 1), (1.5, 2), (2.0, 1), (9.0, 1)):
        value.observe(seconds, times)
    assert value.counts == [1, 3, 1]
    assert value.num_observed == 5
    assert exposed(histogram("wait_seconds", "Waits.", value)) == [
        'wait_seconds_bucket{le="1.0"} 1.0',
        'wait_seconds_bucket{le="2.0"} 4.0',
        'wait_seconds_bucket{le="+Inf"} 5.0',
        "wait_seconds_count 5.0",
        "wait_seconds_sum 15.0",
    ]


def test_only_the_first_names_stand_for_themselves():
    names = BoundedNames(2)
    assert [names.label(name) for name in ("a", "b", "c", "a", "d", "b")] == [
        "a",
        "b",
        OTHER,
        "a",
        OTHER,
        "b",
    ]
    assert BoundedNames(0).label("a") == OTHER


def test_calls_are_told_apart_by_method_and_code():
    meter = RpcMeter()
    for code in ("OK", "OK", "NOT_FOUND"):
        meter.note("/multilora.v1.InferenceService/Generate", code, 0.01)
    counts = [line for line in exposed(*rpc_families(meter)) if "_count" in line]
    assert counts == [
        'multilora_rpc_duration_seconds_count{code="OK",method="Generate"} 2.0',
        'multilora_rpc_duration_seconds_count{code="NOT_FOUND",method="Generate"} 1.0',
    ]
