"""Serves a process's metrics to Prometheus: `GET /metrics` on a port of its own, by threads of its own.

Must not know what is measured: collectors are handed in. The sockets and the text formats are those of
prometheus_client.
"""

import logging
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

log = logging.getLogger(__name__)


class MetricsServer:
    """Serves what `collect` gives at each scrape, called on threads of its own, and what the process takes.

    Raises OSError, naming the flag, if the address cannot be had.
    """

    def __init__(self, host: str, port: int, collect: Callable[[], Iterable[Metric]]) -> None:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Collector(collect))
        ProcessCollector(registry=registry)
        try:
            self._server, self._thread = start_http_server(port, host, registry)
        except OSError as error:
            raise OSError(f"--metrics-port: cannot listen on {host}:{port}: {error.strerror}") from error
        self.address = f"{host}:{self._server.server_port}"
        log.info("metrics are at http://%s/metrics", self.address)

    def close(self) -> None:
        """Ends it; waits for its thread, not for scrapes that run."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Collector(Collector):
    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterable[Metric]:
        return self._collect()

    def describe(self) -> Iterable[Metric]:
        # Without this the registry would collect once at registration.
        return ()
