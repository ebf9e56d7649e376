"""Hears the store's changes for as long as the service runs, and tells them to what is remembered of names.

Goes on from the last resume token after every break. Must not know what a change means.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Protocol

import grpc

from protos.multilora.v1 import adapter_store_pb2 as pb
from services.inference.adapters.known_names import KnownNames

log = logging.getLogger(__name__)

FIRST_RETRY_S = 0.1
LAST_RETRY_S = 1.0
# The store says something every 5 s. A connection that is silent for longer may be dead and not know it.
SILENCE_S = 12.0


class ChangeListener(Protocol):
    """Remembers something that the store's changes are about."""

    def change(self, kind: str, name: str) -> None:
        """A change of this kind, as the wire names it, to what has this name."""
        ...

    def forget_all(self) -> None:
        """Changes have been missed: whatever is remembered may be wrong."""
        ...


class StoreWatch:
    """One watcher of the whole store, for what is remembered of names and for `others`."""

    def __init__(
        self,
        stub: Any,
        names: KnownNames,
        others: Sequence[ChangeListener] = (),
        silence_s: float = SILENCE_S,
    ) -> None:
        self._stub = stub
        self._names = names
        self._listeners: tuple[ChangeListener, ...] = (names, *others)
        self._silence_s = silence_s
        self._resume_token = ""

    async def run(self) -> None:
        """Until it is cancelled."""
        retry_s, was_heard = FIRST_RETRY_S, True
        while True:
            try:
                await self._hear()
                why = "the store ended the stream"
            except (grpc.RpcError, TimeoutError) as error:
                why = error.code().name if isinstance(error, grpc.RpcError) else "it is silent"
            except Exception:
                log.exception("the adapter store's changes cannot be taken")
                why = "a defect"
            finally:
                level = logging.WARNING if was_heard else logging.DEBUG
                was_heard = self._names.stats().connected
                self._names.lose()
            log.log(level, "the adapter store's changes are not heard (%s): it is asked for every name", why)
            retry_s = FIRST_RETRY_S if was_heard else min(2 * retry_s, LAST_RETRY_S)
            await asyncio.sleep(retry_s)

    async def _hear(self) -> None:
        call = self._stub.Watch(pb.WatchRequest(resume_token=self._resume_token))
        try:
            is_first = True
            while True:
                response = await asyncio.wait_for(call.read(), self._silence_s)
                if response is grpc.aio.EOF:
                    return
                self._take(response, is_first)
                is_first = False
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                # A store that takes no token of the last one's knows nothing of what came after it.
                self._resume_token = ""
            raise
        finally:
            call.cancel()

    def _take(self, response: pb.WatchResponse, is_first: bool) -> None:
        if is_first:
            is_resumed = bool(self._resume_token) and not response.reset
            self._names.listen()
            if not is_resumed:
                self._forget_all()
            log.info("the adapter store's changes are heard%s", ", from where they broke off" * is_resumed)
        elif response.reset:
            self._forget_all()
        for change in response.changes:
            for listener in self._listeners:
                listener.change(_kind(change.kind), change.name)
        if response.caught_up:
            self._names.catch_up()
        # Last: what was taken only in part is to come again.
        self._resume_token = response.resume_token

    def _forget_all(self) -> None:
        for listener in self._listeners:
            listener.forget_all()


def _kind(number: int) -> str:
    value = pb.ChangeKind.DESCRIPTOR.values_by_number.get(number)
    return value.name if value else ""
