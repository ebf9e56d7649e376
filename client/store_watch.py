"""The adapter store's Watch as an async iterator that outlives connections, as a part of StoreClient."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from client.errors import MultiloraError, rpc_errors
from client.registry import ChangeBatch
from client.wire import decode
from protos.multilora.v1 import adapter_store_pb2 as pb

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0


class StoreWatch:
    """Methods of StoreClient."""

    _stub: Any

    async def watch(self, resume_token: str = "", *, tenant: str = "") -> AsyncGenerator[ChangeBatch, None]:
        """Every change after `resume_token` (empty: from now on), and then each new one as it is made.

        Of one tenant, or of all that the caller may see. The first batch comes at once; ones without changes
        come every few seconds. A connection that breaks is made again, for as long as it takes, and nothing
        is missed or given twice. A `reset` batch means that what was remembered is stale.
        """
        parent = f"tenants/{tenant}" if tenant and not tenant.startswith("tenants/") else tenant
        pause_s, was_connected = _FIRST_PAUSE_S, False
        while True:
            try:
                with rpc_errors():
                    async for response in self._stub.Watch(
                        pb.WatchRequest(resume_token=resume_token, parent=parent)
                    ):
                        was_connected, pause_s = True, _FIRST_PAUSE_S
                        resume_token = response.resume_token
                        yield decode(ChangeBatch, response)
            except MultiloraError as error:
                if error.code not in ("UNAVAILABLE", "CANCELLED") or not was_connected:
                    raise
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
