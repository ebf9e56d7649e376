"""Prometheus' families from plain numbers. The words of names: `multilora_` first, units last.

Must not know what is measured, nor hold any state.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import inf

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from services.common.histogram import Histogram
from services.common.rpc_meter import RpcMeter

Values = Mapping[tuple[str, ...], float]


def gauge(name: str, documentation: str, value: float) -> Metric:
    """One number of now."""
    return GaugeMetricFamily(name, documentation, value=value)


def gauges(name: str, documentation: str, labels: Sequence[str], values: Values) -> Metric:
    """Numbers of now, by their labels' values."""
    family = GaugeMetricFamily(name, documentation, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def counter(name: str, documentation: str, value: float) -> Metric:
    """One count since the start; `name` ends in _total."""
    return CounterMetricFamily(name, documentation, value=value)


def counters(name: str, documentation: str, labels: Sequence[str], values: Values) -> Metric:
    """Counts since the start, by their labels' values."""
    family = CounterMetricFamily(name, documentation, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def histograms(
    name: str, documentation: str, labels: Sequence[str], values: Mapping[tuple[str, ...], Histogram]
) -> Metric:
    """Distributions by their labels' values; without labels, the one of key ()."""
    family = HistogramMetricFamily(name, documentation, labels=labels)
    for key, histogram in values.items():
        family.add_metric(key, *_buckets(histogram))
    return family


def histogram(name: str, documentation: str, value: Histogram) -> Metric:
    """One distribution."""
    return histograms(name, documentation, (), {(): value})


def rpc_families(meter: RpcMeter) -> Iterable[Metric]:
    """What both services say of their calls."""
    yield histograms(
        "multilora_rpc_duration_seconds",
        "Seconds a call took, a stream until its end.",
        ("method", "code"),
        # A copy: its owner may add a key meanwhile.
        dict(list(meter.seconds.items())),
    )


def _buckets(histogram: Histogram) -> tuple[list[tuple[str, float]], float]:
    """Cumulative, as Prometheus has them."""
    counts, total = list(histogram.counts), histogram.total
    buckets, below = [], 0
    for bound, count in zip((*histogram.bounds, inf), counts, strict=True):
        below += count
        buckets.append(("+Inf" if bound == inf else repr(bound), float(below)))
    return buckets, total
