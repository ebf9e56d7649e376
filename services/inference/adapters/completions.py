"""How a piece of adapter I/O ended: what its threads post to the engine's loop. Plain values."""

import logging
import uuid
from dataclasses import dataclass

from services.common.errors import Code, Reason, ServiceError
from services.inference.adapters.io_orders import FetchSource
from services.inference.request import AdapterKey

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Fetched:
    """A packed copy of `host_bytes`, which fills `num_pages`, is in the host cache."""

    key: AdapterKey
    num_pages: int
    host_bytes: int
    source: FetchSource


@dataclass(frozen=True, slots=True)
class FetchFailed:
    """There is no copy, for this reason."""

    key: AdapterKey
    error: ServiceError


@dataclass(frozen=True, slots=True)
class LoadEnded:
    """The device has done all copies of a load that were launched, be it all of them or not."""

    key: AdapterKey


Completion = Fetched | FetchFailed | LoadEnded


def defect(doing: str, error: Exception) -> ServiceError:
    """An exception that nobody foresaw, logged with an incident id that the caller gets to see."""
    incident = uuid.uuid4().hex[:12]
    log.error("%s failed, incident %s", doing, incident, exc_info=error)
    message = f"{doing} failed, incident {incident}: the server's log has the details"
    return ServiceError(Code.INTERNAL, Reason.INTERNAL_ERROR, message, metadata={"incident": incident})
