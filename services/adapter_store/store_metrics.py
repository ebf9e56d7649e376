"""The store's metrics endpoint, and its numbers as Prometheus' families.

Must not know how they are counted.
"""

from collections.abc import Iterable

from prometheus_client.core import Metric

from services.adapter_store.settings import Settings
from services.adapter_store.upload_meter import UploadMeter
from services.common.metric_families import counter, histogram, histograms, rpc_families
from services.common.metrics_server import MetricsServer
from services.common.rpc_meter import RpcMeter


def serve_metrics(uploads: UploadMeter, rpcs: RpcMeter, settings: Settings) -> MetricsServer:
    """The endpoint that `settings` ask for, running. Raises OSError if the address cannot be had."""
    assert settings.metrics_port is not None, "somebody wants metrics"

    def collect() -> Iterable[Metric]:
        yield from upload_families(uploads)
        yield from rpc_families(rpcs)

    return MetricsServer(settings.metrics_host, settings.metrics_port, collect)


def upload_families(meter: UploadMeter) -> Iterable[Metric]:
    """What became of uploads."""
    yield histogram(
        "multilora_store_upload_seconds",
        "Seconds from an upload's start to its version being active.",
        meter.upload_seconds,
    )
    yield histograms(
        "multilora_store_validation_seconds",
        "Seconds that checking an upload's files took.",
        ("outcome",),
        {(outcome,): seconds for outcome, seconds in meter.validation_seconds.items()},
    )
    yield counter(
        "multilora_store_received_bytes_total", "Bytes of uploads that were taken.", meter.received_bytes
    )
