"""The inference service's metrics endpoint: each scrape asks the engine and reads the front end's meters.

Nothing is computed ahead of a scrape. Must not know families' names: those who know the numbers name them.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from prometheus_client.core import Metric

from services.common.errors import ServiceError
from services.common.metric_families import counter, gauge, rpc_families
from services.common.metrics_server import MetricsServer
from services.common.rpc_meter import RpcMeter
from services.inference.engine_families import engine_families
from services.inference.engine_keeper import EngineKeeper
from services.inference.request_families import request_families, store_families
from services.inference.request_meter import RequestMeter
from services.inference.resolution import StoreStats
from services.inference.settings import Settings
from services.inference.vllm_families import vllm_families

log = logging.getLogger(__name__)

# Below Prometheus' own timeout, so that a scrape without the engine still tells the rest.
ENGINE_TIMEOUT_S = 5.0
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sources:
    """Where numbers come from. `store_stats` may be called from any thread."""

    engine: EngineKeeper
    requests: RequestMeter
    rpcs: RpcMeter
    store_stats: Callable[[], StoreStats]


class InferenceMetrics:
    """`collect` for the endpoint's threads. Make it on the event loop that has the engine client."""

    def __init__(self, sources: Sources, settings: Settings) -> None:
        self._sources = sources
        self._loop = asyncio.get_running_loop()
        # A batch has a request for each adapter in it.
        self._max_adapters = settings.max_batch_requests
        self._vllm_metrics = settings.vllm_metrics

    def collect(self) -> Iterable[Metric]:
        """All families; those of the engine only while it answers."""
        yield from request_families(self._sources.requests)
        yield from store_families(self._sources.store_stats())
        yield from rpc_families(self._sources.rpcs)
        try:
            families = list(self._engine_families())
        except (ServiceError, TimeoutError, RuntimeError) as error:
            log.info("a scrape goes without the engine: %s", error)
            families = []
        restarts = self._sources.engine.num_restarts
        yield counter("multilora_engine_restarts_total", "Engines that followed one that crashed.", restarts)
        yield gauge("multilora_engine_up", "1 if the engine answered this scrape.", bool(families))
        yield from families

    def _engine_families(self) -> Iterable[Metric]:
        engine = self._sources.engine
        metrics = self._ask(engine.metrics())
        yield from engine_families(metrics)
        if self._vllm_metrics:
            yield from vllm_families(metrics.stats, self._ask(engine.list_resident()), self._max_adapters)

    def _ask(self, question: Coroutine[Any, Any, T]) -> T:
        """Its answer. Raises TimeoutError, or RuntimeError if the loop has ended."""
        try:
            answer = asyncio.run_coroutine_threadsafe(question, self._loop)
        except RuntimeError:
            question.close()
            raise
        try:
            return answer.result(ENGINE_TIMEOUT_S)
        finally:
            answer.cancel()


def serve_metrics(sources: Sources, settings: Settings) -> MetricsServer:
    """The endpoint that `settings` ask for, running. Raises OSError if the address cannot be had."""
    assert settings.metrics_port is not None, "somebody wants metrics"
    return MetricsServer(
        settings.metrics_host, settings.metrics_port, InferenceMetrics(sources, settings).collect
    )
