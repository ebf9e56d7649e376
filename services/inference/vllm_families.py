"""The metrics by which the Gateway API Inference Extension picks a replica, under vLLM's names and labels.

Must not know how they are asked for.
"""

import time
from collections.abc import Iterable, Sequence

from prometheus_client.core import Metric

from services.common.metric_families import gauge, gauges
from services.inference.adapter_name import parse_reference
from services.inference.messages import AdapterInfo, EngineStats


def vllm_families(stats: EngineStats, adapters: Sequence[AdapterInfo], max_adapters: int) -> Iterable[Metric]:
    """Queue, share of the pool in use by keys and values, and the adapters of requests by name."""
    yield gauge("vllm:num_requests_waiting", "Requests that wait.", stats.queued_requests)
    yield gauge("vllm:num_requests_running", "Requests that run.", stats.running_requests)
    share = stats.kv_pages / max(1, stats.total_pages)
    yield gauge("vllm:kv_cache_usage_perc", "Keys' and values' share of the pool, 1 is all.", share)
    running = _names(each for each in adapters if each.running_requests)
    waiting = _names(each for each in adapters if each.waiting_requests)
    yield gauges(
        "vllm:lora_requests_info",
        "Adapters of running and waiting requests; the value is the time of this.",
        ("max_lora", "running_lora_adapters", "waiting_lora_adapters"),
        {(str(max_adapters), running, waiting): time.time()},
    )


def _names(adapters: Iterable[AdapterInfo]) -> str:
    """As requests name them, whatever version: TENANT/ADAPTER, each once."""
    names = set()
    for info in adapters:
        reference = parse_reference(info.version_name)
        if reference is not None:
            names.add(reference.adapter.removeprefix("tenants/").replace("/adapters/", "/"))
    return ",".join(sorted(names))
