"""What the engine says of itself, as Prometheus' families. Must not know how it is asked."""

from collections.abc import Iterable

from prometheus_client.core import Metric

from services.common.metric_families import counter, counters, gauge, gauges, histogram, histograms
from services.inference.messages import EngineMetrics, EngineStats, ResidencyState


def engine_families(metrics: EngineMetrics) -> Iterable[Metric]:
    """Everything, one family after another."""
    yield from _requests(metrics.stats)
    yield from _pool(metrics.stats)
    yield from _adapters(metrics)
    yield from _steps(metrics)


def _requests(stats: EngineStats) -> Iterable[Metric]:
    yield gauge("multilora_requests_queued", "Requests that wait.", stats.queued_requests)
    yield gauge("multilora_requests_running", "Requests that run.", stats.running_requests)
    yield counters(
        "multilora_requests_total",
        "Requests that have ended, copies for shadows among them.",
        ("outcome",),
        {
            ("finished",): stats.finished_requests,
            ("cancelled",): stats.cancelled_requests,
            ("failed",): stats.failed_requests,
        },
    )
    yield counter("multilora_preemptions_total", "Requests put back for want of pages.", stats.preemptions)
    yield counters(
        "multilora_engine_tokens_total",
        "Tokens of the engine, copies for shadows among them.",
        ("kind",),
        {("prompt",): stats.prompt_tokens, ("generated",): stats.generated_tokens},
    )


def _pool(stats: EngineStats) -> Iterable[Metric]:
    yield gauges(
        "multilora_pool_pages",
        "Pages of the pool by use.",
        ("use",),
        {("kv",): stats.kv_pages, ("adapter",): stats.adapter_pages, ("free",): stats.free_pages},
    )
    yield gauges(
        "multilora_pool_pages_peak",
        "The most pages that were in use at once since the start.",
        ("use",),
        {("kv",): stats.peak_kv_pages, ("adapter",): stats.peak_adapter_pages},
    )
    yield gauge("multilora_pool_page_bytes", "Size of a page.", stats.page_bytes)


def _adapters(metrics: EngineMetrics) -> Iterable[Metric]:
    stats = metrics.stats
    yield gauges(
        "multilora_adapters",
        "Adapters that the engine knows of, by residency.",
        ("residency",),
        {(str(state),): metrics.adapters_by_residency.get(state, 0) for state in ResidencyState},
    )
    yield gauge("multilora_adapter_host_bytes", "Host memory that packed adapters hold.", stats.host_bytes)
    yield counters(
        "multilora_adapter_hits_total",
        "Requests that found their adapter in a tier, and fetches from disk.",
        ("tier",),
        {("device",): stats.device_hits, ("host",): stats.host_hits, ("disk",): stats.disk_hits},
    )
    yield counter("multilora_adapter_store_fetches_total", "Fetches from the store.", stats.store_fetches)
    yield counter("multilora_adapter_fetch_failures_total", "Fetches that failed.", stats.fetch_failures)
    yield counter(
        "multilora_adapter_fetched_bytes_total", "Bytes of fetches from the store.", metrics.fetched_bytes
    )
    yield counters(
        "multilora_adapter_evictions_total",
        "Adapters evicted from a tier.",
        ("tier",),
        {("device",): stats.device_evictions, ("host",): stats.host_evictions},
    )
    yield histograms(
        "multilora_adapter_load_seconds",
        "Seconds from the order to the end: store and disk to host memory, host to the device.",
        ("source",),
        {(source,): seconds for source, seconds in metrics.load_seconds.items()},
    )


def _steps(metrics: EngineMetrics) -> Iterable[Metric]:
    yield histogram("multilora_batch_requests", "Requests of a step.", metrics.batch_requests)
    yield histogram(
        "multilora_batch_adapters",
        "Different adapters of a step, the base model not counted.",
        metrics.batch_adapters,
    )
    yield counter("multilora_mixed_steps_total", "Steps of two or more adapters.", metrics.stats.mixed_steps)
