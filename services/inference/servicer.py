"""InferenceService: checks calls, hands them to the engine, streams back what it says.

Must not know how tokens are made, nor where adapters lie.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import grpc

from protos.multilora.v1 import inference_pb2 as pb
from protos.multilora.v1 import inference_pb2_grpc as pb_grpc
from services.common.access_guard import caller_of
from services.common.caller import Caller
from services.common.errors import Reason, unavailable
from services.common.tracing import Tracing
from services.inference.adapter_name import check_adapter_name, full_version_name, tenant_of
from services.inference.admission import AdapterResolver, Admission
from services.inference.convert import event_to_wire, resident_to_wire, stats_to_wire, tier_from_wire
from services.inference.engine_port import EnginePort, EventSink
from services.inference.messages import AdapterInfo, Ready, ResidencyState
from services.inference.page_token import take_page
from services.inference.request import AdapterKey
from services.inference.request_meter import RequestMeter
from services.inference.request_spans import RequestSpans
from services.inference.served_model import ServedModel
from services.inference.shadows import Shadows
from services.inference.stream import RequestStream
from services.inference.tenants import CountedSink, Tenants, tenant_charged

RETRY_AFTER_S = 1.0

Context = grpc.aio.ServicerContext[Any, Any]


class InferenceServicer(pb_grpc.InferenceServiceServicer):
    """All RPCs. Refuses work until `open` and after `drain`, and counts what runs in between."""

    def __init__(
        self,
        model: ServedModel,
        engine: EnginePort,
        resolver: AdapterResolver,
        *,
        tenants: Tenants,
        meter: RequestMeter | None = None,
        spans: RequestSpans | None = None,
        max_shadows: int = 16,
        max_requests: int = 256,
    ) -> None:
        self._model = model
        self._engine = engine
        self._resolver = resolver
        self._tenants = tenants
        self._meter = meter
        self._spans = spans or RequestSpans(Tracing())
        self._admission = Admission(model, resolver, self._spans.tracing)
        self._shadows = Shadows(
            engine, resolver, model.tokenizer, max_copies=max_shadows, max_requests=max_requests
        )
        self._ready: Ready | None = None
        self._why_closed = "the model is still being loaded"
        self._base_model_digest = ""
        self._is_draining = False
        self._num_working = 0
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    def open(self, ready: Ready, base_model_digest: str) -> None:
        """Takes calls from now on."""
        self._ready, self._base_model_digest = ready, base_model_digest

    def close(self, why: str) -> None:
        """Refuses every call, with this text, until it is opened again."""
        self._ready, self._why_closed = None, why

    async def drain(self) -> None:
        """Refuses new work; returns when what runs has ended."""
        self._is_draining = True
        self._shadows.stop()
        await self._is_idle.wait()

    async def Generate(
        self, request: pb.GenerateRequest, context: Context
    ) -> AsyncIterator[pb.GenerateResponse]:
        """Started, deltas, finished; whatever ends the call early ends the request in the engine."""
        with self._work() as ready:
            admitted = await self._admission.admit(
                request, ready.max_context_tokens, context.time_remaining()
            )
            inner, callers_id = admitted.request, admitted.callers_id
            stream = RequestStream(inner, self._model.tokenizer.detokenizer(inner.prompt_token_ids))
            original = self._shadows.original(admitted)
            ticket = await self._tenants.admit(inner, caller_of(context))
            sink: EventSink = stream if ticket is None else CountedSink(stream, ticket)
            if self._meter is not None:
                sink = self._meter.metered(inner, tenant_charged(inner, caller_of(context)), sink)
            sink = self._spans.traced(inner, sink)
            # A client that goes away is CancelledError in an await but GeneratorExit in a yield.
            try:
                self._shadows.make_room(self._num_working)
                self._engine.submit(inner, sink)
                async with aclosing(stream.read()) as events:
                    async for event in events:
                        if original is not None:
                            original.note(event)
                        yield event_to_wire(event, inner, callers_id)
            finally:
                self._engine.cancel(inner.request_id)
                if ticket is not None:
                    ticket.end()
        if original is not None and not self._is_draining:
            self._shadows.start(original, self._num_working)

    async def GetModel(self, request: pb.GetModelRequest, context: Context) -> pb.Model:
        """What this server runs."""
        ready, model = self._require_ready(), self._model
        return pb.Model(
            base_model=model.name,
            base_model_digest=self._base_model_digest,
            architecture=model.config.architecture,
            max_context_tokens=ready.max_context_tokens,
            max_rank=model.max_rank,
            dtype=model.dtype,
            device=model.device,
            target_modules=model.target_modules,
        )

    async def ListResidentAdapters(
        self, request: pb.ListResidentAdaptersRequest, context: Context
    ) -> pb.ListResidentAdaptersResponse:
        """A page of the adapters the engine knows of, by version name."""
        self._require_ready()
        adapters = await self._visible(caller_of(context))
        page, next_page_token = take_page(adapters, _version_name, request.page_size, request.page_token)
        rows = [resident_to_wire(info) for info in page]
        return pb.ListResidentAdaptersResponse(adapters=rows, next_page_token=next_page_token)

    async def LoadAdapter(self, request: pb.LoadAdapterRequest, context: Context) -> pb.ResidentAdapter:
        """Returns when the adapter is where it was asked to be."""
        with self._work():
            tier = tier_from_wire(request.tier, ResidencyState.DEVICE)
            adapter = await self._admission.resolve_one(request.adapter)
            await self._tenants.prepare_load(adapter)
            return resident_to_wire(await self._engine.load(adapter, tier, pin=request.pin))

    async def UnloadAdapter(
        self, request: pb.UnloadAdapterRequest, context: Context
    ) -> pb.UnloadAdapterResponse:
        """Returns when the tenant's requests on it have ended and the tenant holds it no more."""
        with self._work():
            tier = tier_from_wire(request.tier, ResidencyState.HOST)
            key = await self._resident_key(request.adapter)
            freed = await self._engine.unload(key, tenant_of(request.adapter), tier)
        return pb.UnloadAdapterResponse(
            freed_device_bytes=freed.device_bytes, freed_host_bytes=freed.host_bytes
        )

    async def GetStats(self, request: pb.GetStatsRequest, context: Context) -> pb.Stats:
        """The engine's counters."""
        self._require_ready()
        return stats_to_wire(await self._engine.stats(), self._resolver.stats(), self._shadows.stats)

    async def _visible(self, caller: Caller) -> tuple[AdapterInfo, ...]:
        """What the caller may know of: its own use, whoever else has the same weights here."""
        adapters = await self._engine.list_resident()
        return tuple(info for info in adapters if caller.may_enter(tenant_of(info.version_name)))

    async def _resident_key(self, name: str) -> AdapterKey:
        """The key of what is here by the version's own name; of what `name` means now otherwise.

        So what is here can be sent away though its version was disabled or the store does not answer.
        """
        check_adapter_name(name)
        version_name = full_version_name(name)
        for info in await self._engine.list_resident():
            if info.version_name == version_name:
                return info.key
        return (await self._admission.resolve_one(name)).key

    def _require_ready(self) -> Ready:
        if self._ready is None:
            message = f"{self._why_closed}: send this to another server, or again in a while"
            raise unavailable(Reason.ENGINE_DOWN, message, RETRY_AFTER_S)
        return self._ready

    @contextmanager
    def _work(self) -> Iterator[Ready]:
        ready = self._require_ready()
        if self._is_draining:
            raise unavailable(
                Reason.DRAINING, "the server is shutting down: send this to another one", RETRY_AFTER_S
            )
        self._num_working += 1
        self._is_idle.clear()
        try:
            yield ready
        finally:
            self._num_working -= 1
            if not self._num_working:
                self._is_idle.set()

    def check_integrity(self) -> None:
        """Raises AssertionError unless nothing runs."""
        assert not self._num_working, f"{self._num_working} calls are still counted"
        assert self._is_idle.is_set(), "idle, but a drain would wait"
        self._shadows.check_integrity()
        self._tenants.check_integrity()

    def __repr__(self) -> str:
        state = "draining" if self._is_draining else "open" if self._ready else "closed"
        return f"InferenceServicer({state}, working={self._num_working})"


def _version_name(info: AdapterInfo) -> str:
    return info.version_name
