"""What callers and the front end's store see, as Prometheus' families. Must not know the engine."""

from collections.abc import Iterable

from prometheus_client.core import Metric

from services.common.metric_families import counter, counters, gauge, histogram
from services.inference.request_meter import RequestMeter
from services.inference.resolution import StoreStats


def request_families(meter: RequestMeter) -> Iterable[Metric]:
    """What requests waited for and got."""
    for name, documentation, value in (
        ("time_to_first_token", "Seconds from a request's arrival to its first token.", meter.first_token_s),
        ("inter_token", "Seconds between two tokens of a request.", meter.between_tokens_s),
        ("queue", "Seconds a request waited, not counting the wait for its adapter.", meter.queue_s),
        ("adapter_wait", "Seconds a request waited for its adapter.", meter.adapter_wait_s),
        ("request", "Seconds from a request's arrival to its end.", meter.total_s),
    ):
        yield histogram(f"multilora_{name}_seconds", documentation, value)
    yield counters(
        "multilora_tokens_total",
        "Tokens by the tenant they are for: _none has none, _other are those beyond --metrics-tenants.",
        ("tenant", "kind"),
        dict(meter.tokens),
    )


def store_families(stats: StoreStats) -> Iterable[Metric]:
    """How the service stands with its store."""
    yield gauge("multilora_store_connected", "1 while every change of the store is heard.", stats.connected)
    yield counter(
        "multilora_store_changes_total", "Changes of the store that were heard.", stats.changes_seen
    )
    yield counters(
        "multilora_resolves_total",
        "Names resolved, by where the answer came from: stale is memory, since the store did not answer.",
        ("source",),
        {
            ("memory",): stats.resolve_hits,
            ("store",): stats.resolve_calls,
            ("stale",): stats.stale_resolves,
        },
    )
