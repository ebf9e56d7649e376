"""Opens pools of connections to SQLite or PostgreSQL, one for reading transactions, one for writing.

What reads sees one snapshot. What writes: on SQLite BEGIN IMMEDIATE, so that writers queue instead of failing
half-way, with a write-ahead log and synchronous=FULL, so that a commit survives a power cut; on PostgreSQL
READ COMMITTED, where rows that are judged are locked first or swapped by comparison.
"""

from typing import Any

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.pool import NullPool, QueuePool

BUSY_TIMEOUT_S = 30.0
# Together no more than a fifth of what PostgreSQL takes by default: several replicas fit.
NUM_READERS = 12
NUM_WRITERS = 8

_CONNECT: dict[str, Any] = {
    "connect_timeout": 5,
    # A server that is gone without a word is noticed in seconds.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    "application_name": "multilora-store",
}
_STATEMENTS = "-c statement_timeout=30s"
# A replica that stops in the middle of a change must not hold others up for long.
_CHANGES = f"{_STATEMENTS} -c lock_timeout=10s -c idle_in_transaction_session_timeout=30s"


def normalised(url: str) -> URL:
    """`url` with the driver that this package brings."""
    parsed = make_url(url)
    if parsed.get_backend_name() in ("postgres", "postgresql"):
        return parsed.set(drivername="postgresql+psycopg")
    return parsed


def open_readers(url: URL) -> Engine:
    """Transactions that see one snapshot and change nothing."""
    if url.get_backend_name() == "sqlite":
        return _sqlite(url, "BEGIN", pool_size=16, max_overflow=48)
    return _postgresql(
        url,
        _STATEMENTS,
        pool_size=NUM_READERS,
        isolation_level="REPEATABLE READ",
        execution_options={"postgresql_readonly": True},
    )


def open_writers(url: URL) -> Engine:
    """Transactions that change rows."""
    if url.get_backend_name() == "sqlite":
        # One connection: writers of this process wait in turn, and SQLite's own lock is for other processes.
        return _sqlite(url, "BEGIN IMMEDIATE", pool_size=1, max_overflow=0)
    return _postgresql(url, _CHANGES, pool_size=NUM_WRITERS, isolation_level="READ COMMITTED")


def open_listener(url: URL) -> Engine:
    """One connection to PostgreSQL at a time, for a thread that waits on it."""
    return create_engine(url, poolclass=NullPool, connect_args=_CONNECT)


def open_for_migration(url: URL) -> Engine:
    """One transaction that may take as long as it needs."""
    if url.get_backend_name() == "sqlite":
        return _sqlite(url, "BEGIN IMMEDIATE", pool_size=1, max_overflow=0)
    return create_engine(url, poolclass=NullPool, connect_args=_CONNECT)


def _postgresql(url: URL, options: str, *, pool_size: int, **engine_options: Any) -> Engine:
    return create_engine(
        url,
        poolclass=QueuePool,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=10.0,
        # A connection that the server has lost is replaced before it is used, not after it has failed a call.
        pool_pre_ping=True,
        connect_args={**_CONNECT, "options": options},
        **engine_options,
    )


def _sqlite(url: URL, begin: str, *, pool_size: int, max_overflow: int) -> Engine:
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=pool_size,
        max_overflow=max_overflow,
        pool_timeout=BUSY_TIMEOUT_S,
        connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: Any) -> None:
        # The driver must not open transactions by itself: `on_begin` does.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine
