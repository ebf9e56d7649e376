"""The inference service's RPCs as typed async methods."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from client.channel import DEFAULT_SERVER, open_channel
from client.credentials import Credentials
from client.errors import rpc_errors
from client.generate_stream import GenerateStream
from client.names import routing_metadata
from client.sampling import ChatMessage, SamplingParams, prompt_fields
from client.serving import Model, Residency, ResidentAdapter, Stats, Unloaded
from client.wire import decode
from protos.multilora.v1 import inference_pb2 as pb
from protos.multilora.v1.inference_pb2_grpc import InferenceServiceStub

_PAGE_SIZE = 1000


class InferenceClient:
    """A connection to one inference server; use it as `async with InferenceClient(address) as client`.

    Make it inside a running event loop. Every method raises MultiloraError.
    """

    def __init__(self, address: str = DEFAULT_SERVER, credentials: Credentials | None = None) -> None:
        self.address = address
        self._channel = open_channel(address, credentials)
        self._stub = InferenceServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the connection and every stream on it."""
        await self._channel.close()

    def generate(
        self,
        *,
        adapter: str = "",
        text: str | None = None,
        token_ids: Sequence[int] | None = None,
        messages: Sequence[ChatMessage] | None = None,
        sampling: SamplingParams | None = None,
        timeout_s: float | None = None,
        request_id: str = "",
        priority: int = 0,
        split_key: str = "",
    ) -> GenerateStream:
        """Starts one stream from exactly one of `text`, `token_ids` and `messages`.

        `adapter` is `acme/support` (its production alias, else its latest version), `acme/support@staging`,
        `acme/support@3`, a full resource name, or empty for the base model. Of an alias that splits traffic,
        the same `split_key` (default: `request_id`) falls to the same version. Raises ValueError.
        """
        request = pb.GenerateRequest(
            adapter=adapter,
            sampling=(sampling or SamplingParams()).to_proto(),
            request_id=request_id,
            priority=priority,
            split_key=split_key,
            **prompt_fields(text, token_ids, messages),  # type: ignore[arg-type]
        )
        metadata = routing_metadata(adapter)
        return GenerateStream(self._stub.Generate(request, timeout=timeout_s, metadata=metadata))

    async def wait_until_ready(self, timeout_s: float) -> Model:
        """Waits until the server can be reached and answers. Raises MultiloraError."""
        with rpc_errors():
            model = await self._stub.GetModel(pb.GetModelRequest(), timeout=timeout_s, wait_for_ready=True)
        return decode(Model, model)

    async def get_model(self) -> Model:
        """The base model that this server runs and what adapters it takes."""
        with rpc_errors():
            return decode(Model, await self._stub.GetModel(pb.GetModelRequest()))

    async def list_resident_adapters(self) -> list[ResidentAdapter]:
        """Every adapter that the server holds or is bringing in, all pages of the list."""
        adapters: list[ResidentAdapter] = []
        page_token = ""
        while True:
            request = pb.ListResidentAdaptersRequest(page_size=_PAGE_SIZE, page_token=page_token)
            with rpc_errors():
                response = await self._stub.ListResidentAdapters(request)
            adapters.extend(decode(ResidentAdapter, each) for each in response.adapters)
            page_token = response.next_page_token
            if not page_token:
                return adapters

    async def load_adapter(
        self,
        adapter: str,
        *,
        tier: Residency = Residency.DEVICE,
        pin: bool = False,
        timeout_s: float | None = None,
    ) -> ResidentAdapter:
        """Brings an adapter to `tier` (HOST or DEVICE) ahead of traffic; `pin` keeps it there."""
        request = pb.LoadAdapterRequest(adapter=adapter, tier=tier.value, pin=pin)
        metadata = routing_metadata(adapter)
        with rpc_errors():
            response = await self._stub.LoadAdapter(request, timeout=timeout_s, metadata=metadata)
        return decode(ResidentAdapter, response)

    async def unload_adapter(
        self, adapter: str, *, tier: Residency = Residency.HOST, timeout_s: float | None = None
    ) -> Unloaded:
        """Waits for the adapter's requests, then frees it: from DEVICE only, or from HOST as well."""
        request = pb.UnloadAdapterRequest(adapter=adapter, tier=tier.value)
        metadata = routing_metadata(adapter)
        with rpc_errors():
            response = await self._stub.UnloadAdapter(request, timeout=timeout_s, metadata=metadata)
        return decode(Unloaded, response)

    async def get_stats(self) -> Stats:
        """The server's counters."""
        with rpc_errors():
            return decode(Stats, await self._stub.GetStats(pb.GetStatsRequest()))
