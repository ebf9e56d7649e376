"""Says what a database's error means for the call that met it: not now, again at once, or a defect."""

import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import exc

from services.common.errors import Code, Reason, ServiceError, unavailable

T = TypeVar("T")

NUM_ATTEMPTS = 5

# PostgreSQL's classes of errors: connection, resources, operator's intervention, the system's own.
_DOWN_CLASSES = ("08", "53", "57", "58")
_DOWN = ("25P03", "25P04")  # a transaction that took too long
_READ_ONLY = "25006"
_CONFLICTS = ("40001", "40P01", "55P03", "23503", "23505")  # serialization, deadlock, lock, keys
_SQLITE_DOWN = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
)


class Conflict(ServiceError):
    """Another transaction was faster, and this one left nothing: the same call again is judged anew."""

    def __init__(self) -> None:
        super().__init__(
            Code.UNAVAILABLE,
            Reason.STORE_UNAVAILABLE,
            "others kept changing the same thing, and nothing was changed by this call: send it again",
            retry_after_s=0.1,
        )


@contextmanager
def answering(*, writes: bool) -> Iterator[None]:
    """Turns what a database raises inside into a Conflict or STORE_UNAVAILABLE; a defect stays as it is."""
    try:
        yield
    except exc.TimeoutError as error:
        raise _not_now("every connection to the database is in use") from error
    except exc.DBAPIError as error:
        meaning = _meaning(error, writes)
        if meaning is None:
            raise
        raise meaning from error


def repeated(function: Callable[..., T], *arguments: Any, **named: Any) -> T:
    """The function's result; called again a few times where it meets a Conflict."""
    for attempt in range(1, NUM_ATTEMPTS):
        try:
            return function(*arguments, **named)
        except Conflict:
            time.sleep(random.uniform(0.0, 0.01) * attempt)
    return function(*arguments, **named)


def _meaning(error: exc.DBAPIError, writes: bool) -> ServiceError | None:
    sqlite_code = getattr(error.orig, "sqlite_errorcode", None)
    if sqlite_code is not None:
        # The low byte is the kind.
        return _not_now("the database cannot be written") if sqlite_code & 0xFF in _SQLITE_DOWN else None
    state = getattr(error.orig, "sqlstate", None)
    if state in _CONFLICTS:
        return Conflict()
    is_lost = error.connection_invalidated or (state is None and isinstance(error, exc.OperationalError))
    is_standby = writes and state == _READ_ONLY
    if is_lost or is_standby or state in _DOWN or (state or "").startswith(_DOWN_CLASSES):
        return _not_now("the database does not answer")
    return None


def _not_now(what: str) -> ServiceError:
    return unavailable(
        Reason.STORE_UNAVAILABLE,
        f"{what}: the call may or may not have had effect; send it again",
        retry_after_s=1.0,
    )
