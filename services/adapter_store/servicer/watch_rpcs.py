"""The RPC that streams changes."""

import contextlib
from collections.abc import AsyncIterator

from protos.multilora.v1 import adapter_store_pb2 as pb
from services.adapter_store.domain.names import parse_tenant
from services.adapter_store.servicer.calling import Context
from services.adapter_store.servicer.watches import Watches
from services.common.access_guard import caller_of


class WatchRpcs:
    """Watch; `watches` has the streams."""

    def __init__(self, watches: Watches) -> None:
        self._watches = watches

    async def Watch(self, request: pb.WatchRequest, context: Context) -> AsyncIterator[pb.WatchResponse]:
        """See the proto."""
        tenant = parse_tenant(request.parent, "parent") if request.parent else caller_of(context).only_tenant
        stream = self._watches.stream(request.resume_token, tenant)
        async with contextlib.aclosing(stream) as responses:
            async for response in responses:
                yield response
