"""One Generate call as an async iterator of events."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import grpc

from client.errors import MultiloraError, rpc_errors
from client.events import Delta, Event, Finished, Started, event_from_proto
from protos.multilora.v1 import inference_pb2 as pb

Call = grpc.aio.UnaryStreamCall[pb.GenerateRequest, pb.GenerateResponse]


@dataclass(frozen=True, slots=True)
class Generation:
    """A whole stream: what it said, and its first and last events."""

    text: str
    token_ids: tuple[int, ...]
    started: Started
    finished: Finished


class GenerateStream:
    """The events of one call, in order. The call is on its way before the first event is asked for.

    Leaving `async with`, or `cancel()`, ends the call; the server then frees all that it held.
    """

    def __init__(self, call: Call) -> None:
        self._call = call

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Yields one Started, Deltas, one Finished. Raises MultiloraError."""
        try:
            with rpc_errors():
                async for response in self._call:
                    event = event_from_proto(response)
                    if event is not None:
                        yield event
        finally:
            self.cancel()

    def cancel(self) -> None:
        """Ends the call if it is still going on."""
        self._call.cancel()

    async def deltas(self) -> AsyncIterator[str]:
        """The text alone, piece by piece as it arrives."""
        async for event in self:
            if isinstance(event, Delta) and event.text:
                yield event.text

    async def text(self) -> str:
        """Waits for the whole stream; its text."""
        return (await self.result()).text

    async def result(self) -> Generation:
        """Waits for the whole stream. Raises MultiloraError, also if the stream ends half-way."""
        started: Started | None = None
        finished: Finished | None = None
        pieces: list[str] = []
        token_ids: list[int] = []
        async for event in self:
            if isinstance(event, Started):
                started = event
            elif isinstance(event, Delta):
                pieces.append(event.text)
                token_ids.extend(event.token_ids)
            else:
                finished = event
        if started is None or finished is None:
            raise MultiloraError("DATA_LOSS", "the stream ended without its started and finished events")
        return Generation("".join(pieces), tuple(token_ids), started, finished)
