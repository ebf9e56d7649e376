"""The service but for the engine process: server, servicer, engine client and store, in their order.

Starts them, announces that it serves, and stops by draining. Must not know requests.
"""

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from services.common.errors import Code, Reason, ServiceError, unavailable
from services.common.gate import OpenGate, TokenGate
from services.common.server import Server
from services.common.serving import credentials_of, open_tracing, say_who_may_call
from services.inference.caller_cache import CallerCache
from services.inference.engine_keeper import EngineGivenUpError, EngineKeeper
from services.inference.engine_link import EngineLink
from services.inference.lease_keeper import LeaseKeeper
from services.inference.messages import Ready
from services.inference.model.digest import base_model_digest
from services.inference.noted_resolver import NotedResolver
from services.inference.registration import SERVICE_NAME, add_to_server
from services.inference.request_meter import RequestMeter
from services.inference.request_spans import RequestSpans
from services.inference.served_model import ServedModel
from services.inference.servicer import InferenceServicer
from services.inference.settings import Settings
from services.inference.store_port import Store
from services.inference.tenant_directory import TenantDirectory
from services.inference.tenants import Tenants
from services.inference.verified_resolver import VerifiedResolver

if TYPE_CHECKING:
    from services.common.metrics_server import MetricsServer

log = logging.getLogger(__name__)

FIRST_RETRY_S = 0.2
LAST_RETRY_S = 5.0
# What was cut off may be sent again at once: to another server.
CUT_OFF_RETRY_S = 1.0


class FrontEnd:
    """One run of the service. `announce` gets HOST:PORT once, when the service is ready for calls."""

    def __init__(
        self,
        settings: Settings,
        model: ServedModel,
        store: Store,
        start_engine: Callable[[], EngineLink],
        announce: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._model = model
        self._store = store
        self._announce = announce
        self._tracing = open_tracing(settings, "multilora-inference")
        spans = RequestSpans(self._tracing)
        self._server = Server(
            settings.listen,
            SERVICE_NAME,
            grace_s=settings.drain_grace_s,
            credentials=credentials_of(settings),
            tracing=self._tracing,
        )
        self._callers = CallerCache(store.authenticate)
        self._gate = TokenGate(self._callers.caller) if settings.is_guarded else OpenGate()
        self._engine = EngineKeeper(start_engine, settings.max_engine_restarts, on_io=spans.note_io)
        self._directory = TenantDirectory(store.tenant)
        self._resolver = VerifiedResolver(store, settings.pinned_keys() or self._directory, model.name)
        self._leases = LeaseKeeper(store, self._engine.list_held, f"{socket.gethostname()} {settings.listen}")
        self._request_meter = (
            None if settings.metrics_port is None else RequestMeter(settings.metrics_tenants)
        )
        self._servicer = InferenceServicer(
            model,
            self._engine,
            NotedResolver(self._resolver, self._leases.note),
            tenants=Tenants(self._directory, self._engine),
            meter=self._request_meter,
            spans=spans,
            max_shadows=settings.max_shadows,
            # One token a step for each running request must fit the step.
            max_requests=min(settings.max_batch_requests, settings.max_batch_tokens),
        )
        self._listeners = (self._callers, self._directory)
        self._digest: str | None = None
        # Of the engine that takes requests at the moment.
        self._ready: Ready | None = None
        self._first_engine = asyncio.Event()
        self._is_announced = False
        self._hurry = asyncio.Event()
        self._exit_code = 0

    async def run(self) -> int:
        """Serves until SIGTERM, Ctrl-C, or an engine that cannot be kept; the exit code of the process.

        Nothing is left running. Raises OSError if the address cannot be had.
        """
        tasks: list[asyncio.Task[None]] = []
        metrics: MetricsServer | None = None
        try:
            metrics = self._serve_metrics()
            add_to_server(self._servicer, self._server.inner, self._gate)
            say_who_may_call(self._settings, await self._server.start())
            tasks = [
                asyncio.create_task(each)
                for each in (
                    self._start_up(),
                    self._keep_engine(),
                    self._leases.run(),
                    self._store.watch(self._listeners),
                )
            ]
            await self._server.run_until_stopped(lambda: self._drain(tasks[:2]))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._server.inner.stop(None)
            if metrics is not None:
                await asyncio.to_thread(metrics.close)
            await self._engine.shut_down()
            await self._leases.release()
            await self._store.close()
            await asyncio.to_thread(self._tracing.close)
        return self._exit_code

    def _serve_metrics(self) -> "MetricsServer | None":
        """The endpoint, if there is to be one; only then is the exporter imported."""
        if self._request_meter is None:
            return None
        from services.inference.metrics import Sources, serve_metrics

        sources = Sources(self._engine, self._request_meter, self._server.rpc_meter, self._resolver.stats)
        return serve_metrics(sources, self._settings)

    async def _start_up(self) -> None:
        try:
            digest = await asyncio.to_thread(base_model_digest, self._settings.model)
            await self._first_engine.wait()
            await self._register(digest)
        except (ServiceError, OSError) as error:
            log.error("cannot start: %s", error)
            self._fail()
            return
        except Exception:
            # A task that dies unseen would leave a server that never serves and never ends.
            log.exception("cannot start")
            self._fail()
            return
        self._resolver.open(digest)
        self._digest = digest
        await self._open()

    async def engine_ready(self, ready: Ready) -> None:
        """See EngineListener."""
        self._ready = ready
        self._first_engine.set()
        await self._open()

    async def engine_lost(self, why: str) -> None:
        """See EngineListener: nobody is to send anything here."""
        self._ready = None
        self._servicer.close(why)
        await self._server.set_serving(False)

    async def _open(self) -> None:
        if self._ready is None or self._digest is None:
            return
        self._servicer.open(self._ready, self._digest)
        await self._server.set_serving(True)
        if not self._is_announced:
            self._is_announced = True
            self._announce(self._server.address)

    async def _register(self, digest: str) -> None:
        retry_s, model = FIRST_RETRY_S, self._model
        while True:
            try:
                await self._store.register_base_model(model.name, digest, model.config, model.max_rank)
                return
            except ServiceError as error:
                if error.code not in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED):
                    raise
                log.warning("the adapter store is not there yet (%s); trying again", error.message)
            await asyncio.sleep(retry_s)
            retry_s = min(2 * retry_s, LAST_RETRY_S)

    async def _keep_engine(self) -> None:
        try:
            await self._engine.keep(self)
        except ServiceError as error:
            log.error("cannot start: %s", error)
        except EngineGivenUpError as error:
            log.error("stopping: %s", error)
        except Exception:
            # As above.
            log.exception("the engine cannot be kept")
        self._fail()

    def _fail(self) -> None:
        self._exit_code = 1
        self._server.stop()

    async def _drain(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        # From here no engine is started, nor anything opened.
        for task in tasks:
            task.cancel()
        had_engine = not self._engine.is_lost
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._hurry.set)
        drained = asyncio.create_task(self._servicer.drain())
        hurried = asyncio.create_task(self._hurry.wait())
        try:
            await asyncio.wait((drained, hurried), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not drained.done():
                log.warning("%d streams that still run are cut off", self._engine.cut_off(_cut_off))
            if hurried.done() or (had_engine and self._engine.is_lost):
                self._exit_code = 1
            drained.cancel()
            hurried.cancel()


def _cut_off() -> ServiceError:
    message = "the server had to stop before this could end: send it again, to another server"
    return unavailable(Reason.DRAINING, message, CUT_OFF_RETRY_S)
