"""Counts the streams that each tenant has open, so that none takes all of a server's memory or threads.

Must not know any RPC.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from services.common.caller import Caller
from services.common.errors import Code, Reason, ServiceError

RETRY_AFTER_S = 1.0


class OpenStreams:
    """Of one server. Operators and services are not counted: nobody but them could serve the others."""

    def __init__(self) -> None:
        self._open: Counter[tuple[str, str]] = Counter()

    @contextmanager
    def place(self, rpc: str, caller: Caller, most: int) -> Iterator[None]:
        """Counts one more while the `with` lasts; 0 is no bound. Raises QUOTA_EXCEEDED."""
        tenant = caller.only_tenant
        if tenant is None or not most:
            yield
            return
        key = rpc, tenant
        if self._open[key] >= most:
            raise _too_many(rpc, tenant, most)
        self._open[key] += 1
        try:
            yield
        finally:
            self._open[key] -= 1
            if not self._open[key]:
                del self._open[key]

    def __repr__(self) -> str:
        return f"OpenStreams({sum(self._open.values())} open)"


def _too_many(rpc: str, tenant: str, most: int) -> ServiceError:
    return ServiceError(
        Code.RESOURCE_EXHAUSTED,
        Reason.QUOTA_EXCEEDED,
        f"tenants/{tenant} has {most} {rpc} streams open at this server, which is the most: end one first, "
        "or call another replica",
        retry_after_s=RETRY_AFTER_S,
    )
