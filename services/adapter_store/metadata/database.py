"""Opens the database and hands out units of work."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from services.adapter_store.domain.actor import STORE, Actor
from services.adapter_store.metadata.answers import answering
from services.adapter_store.metadata.change_listener import NotifySignal
from services.adapter_store.metadata.change_signal import ChangeSignal
from services.adapter_store.metadata.database_clock import database_time
from services.adapter_store.metadata.engine import normalised, open_listener, open_readers, open_writers
from services.adapter_store.metadata.schema import check
from services.adapter_store.metadata.unit_of_work import UnitOfWork


class Database:
    """The store's rows. `read` and `write` open one transaction each; safe to use from many threads.

    Both raise STORE_UNAVAILABLE while the database does not answer, and go on when it does again.
    Raises OSError if there is no database at `url`, and WrongSchema if its tables are not this program's.
    `clock` is what units of work call now.
    """

    def __init__(self, url: str, clock: Callable[[Connection], datetime] = database_time) -> None:
        parsed = normalised(url)
        self._clock = clock
        # SQLite is one process's: there are no commits but its own.
        is_alone = parsed.get_backend_name() == "sqlite"
        self.change_signal = ChangeSignal() if is_alone else NotifySignal(open_listener(parsed))
        self._readers = open_readers(parsed)
        self._writers = open_writers(parsed)
        try:
            with self._readers.connect() as connection:
                check(connection)
        except DBAPIError as error:
            self.close()
            raise OSError(f"the database {parsed} cannot be opened: {error.orig}") from error
        except OSError:
            self.close()
            raise

    @contextmanager
    def read(self) -> Iterator[UnitOfWork]:
        """One consistent view; nothing can be committed."""
        with answering(writes=False), self._readers.connect() as connection, connection.begin():
            yield UnitOfWork(connection, clock=self._clock)

    @contextmanager
    def write(self, actor: Actor = STORE) -> Iterator[UnitOfWork]:
        """One transaction of `actor`'s that is rolled back unless `commit` is called.

        Others may change what it has read, unless it locked that first: whatever it then judges is settled by
        the rows that an UPDATE found, or by a unique key. Raises Conflict where another was faster.
        """
        with answering(writes=True), self._writers.connect() as connection:
            transaction = connection.begin()
            try:
                yield UnitOfWork(connection, transaction.commit, actor, self.change_signal.ring, self._clock)
            finally:
                if transaction.is_active:
                    transaction.rollback()

    def close(self) -> None:
        """Closes every connection."""
        self.change_signal.close()
        self._readers.dispose()
        self._writers.dispose()
