"""Runs a grpc.aio server: health, reflection, one ready line, and a drain on SIGTERM or Ctrl-C.

Knows no service: the caller adds its servicers and says what draining means.
"""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services.common.interceptors import ErrorInterceptor
from services.common.rpc_meter import RpcMeter
from services.common.tracing import Tracing

log = logging.getLogger(__name__)

# Upload and Read move chunks of up to 2 MiB; the rest of the allowance is the message around them.
MAX_MESSAGE_BYTES = 4 << 20
MAX_PENDING_CALLS = 1 << 16
# For answers that are on their way.
LAST_WORD_S = 1.0

GRPC_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),
    # Calls that arrived and whose handler has not begun. Over 1,000, gRPC's default, it cancels some at
    # random and says nothing: a burst is to reach the service, which answers what it cannot take.
    ("grpc.server.max_pending_requests", MAX_PENDING_CALLS),
    ("grpc.server.max_pending_requests_hard_limit", MAX_PENDING_CALLS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5000),
]


async def _nothing() -> None:
    return None


class Server:
    """One gRPC server with health and reflection.

    `add` registers servicers with the inner server before `start`; health is NOT_SERVING until
    `set_serving(True)`. With `credentials` it speaks TLS alone. `run_until_stopped` returns after a drain
    of at most `grace_s`.
    """

    def __init__(
        self,
        listen: str,
        service_name: str,
        *,
        grace_s: float = 30.0,
        interceptors: tuple[grpc.aio.ServerInterceptor, ...] = (),
        credentials: grpc.ServerCredentials | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self._listen = listen
        self._service_name = service_name
        self._grace_s = grace_s
        self._credentials = credentials
        self._health = health.aio.HealthServicer()
        self.rpc_meter = RpcMeter()
        self.inner = grpc.aio.server(
            interceptors=(*interceptors, ErrorInterceptor(self.rpc_meter, tracing or Tracing())),
            options=GRPC_OPTIONS,
        )
        self.address = ""
        self._stop = asyncio.Event()

    async def start(self) -> str:
        """Binds and serves, NOT_SERVING at first. Returns HOST:PORT as bound. Raises OSError if it cannot."""
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.inner)
        reflection.enable_server_reflection(
            (self._service_name, health.SERVICE_NAME, reflection.SERVICE_NAME), self.inner
        )
        await self.set_serving(False)
        try:
            if self._credentials is None:
                port = self.inner.add_insecure_port(self._listen)
            else:
                port = self.inner.add_secure_port(self._listen, self._credentials)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {self._listen}: is another process using the port?") from error
        self.address = f"{self._listen.rpartition(':')[0]}:{port}"
        await self.inner.start()
        return self.address

    async def set_serving(self, serving: bool) -> None:
        """Sets the health of the server and of its service."""
        status = (
            health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        )
        for name in ("", self._service_name):
            await self._health.set(name, status)

    def stop(self) -> None:
        """Asks `run_until_stopped` to drain and return. Safe to call from a signal handler."""
        self._stop.set()

    async def run_until_stopped(
        self,
        drain: Callable[[], Awaitable[Any]] = _nothing,
        finish: Callable[[], Awaitable[Any]] = _nothing,
    ) -> None:
        """Serves until SIGTERM, SIGINT or `stop`; then NOT_SERVING, `drain()`, and a graceful stop.

        Calls are taken until `drain()` has returned; those that run by then go on until `finish()` has.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        try:
            await self._stop.wait()
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
        log.info("draining, at most %.0f s", self._grace_s)
        # For good: whatever happens meanwhile does not make it serve again.
        await self._health.enter_graceful_shutdown()
        stopping: list[asyncio.Task[None]] = []
        try:
            async with asyncio.timeout(self._grace_s):
                await drain()
                # Takes nothing new, and tells every connection so.
                stopping.append(asyncio.create_task(self.inner.stop(grace=self._grace_s)))
                await finish()
        except TimeoutError:
            log.warning("the drain took longer than %.0f s; cancelling what is left", self._grace_s)
        # Sooner, now: others' streams, such as those that watch our health, have no end.
        await self.inner.stop(grace=LAST_WORD_S)
        await asyncio.gather(*stopping)
        log.info("stopped")
