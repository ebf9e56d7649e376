"""Opens the database and hands out units of work.

On SQLite: write-ahead log, synchronous=FULL (a commit survives a power cut), and BEGIN IMMEDIATE for
writers, so that two of them queue instead of failing half-way.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, create_engine, event, insert, select
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from services.adapter_store.domain.actor import STORE, Actor
from services.adapter_store.metadata.change_signal import ChangeSignal
from services.adapter_store.metadata.tables import change_counter, metadata
from services.adapter_store.metadata.unit_of_work import UnitOfWork

BUSY_TIMEOUT_S = 30.0


class Database:
    """The store's rows. `read` and `write` open one transaction each; safe to use from many threads.

    Raises OSError if there is no database at `url` and none can be made.
    """

    def __init__(self, url: str) -> None:
        self.change_signal = ChangeSignal()
        self._engine = create_engine(
            url,
            poolclass=QueuePool,
            pool_size=16,
            max_overflow=48,
            connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False},
        )
        _set_up_sqlite(self._engine)
        try:
            metadata.create_all(self._engine)
            _seed(self._engine)
        except DBAPIError as error:
            self._engine.dispose()
            raise OSError(f"the database {url} cannot be opened: {error.orig}") from error

    @contextmanager
    def read(self) -> Iterator[UnitOfWork]:
        """One consistent view; nothing can be committed."""
        with self._engine.connect() as connection, connection.begin():
            yield UnitOfWork(connection)

    @contextmanager
    def write(self, actor: Actor = STORE) -> Iterator[UnitOfWork]:
        """One transaction of `actor`'s that is rolled back unless `commit` is called."""
        with self._engine.connect() as connection:
            connection.execution_options(multilora_write=True)
            transaction = connection.begin()
            try:
                yield UnitOfWork(connection, transaction.commit, actor, self.change_signal.ring)
            finally:
                if transaction.is_active:
                    transaction.rollback()

    def close(self) -> None:
        """Closes every connection."""
        self._engine.dispose()


def _seed(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execution_options(multilora_write=True)
        with connection.begin():
            if connection.execute(select(change_counter.c.id)).first() is None:
                connection.execute(
                    insert(change_counter).values(id=1, last_sequence=0, database_id=uuid.uuid4().hex)
                )


def _set_up_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: Any) -> None:
        # The driver must not open transactions by itself: `on_begin` does.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        write = connection.get_execution_options().get("multilora_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
