"""The version of a database's tables: which it has, which this program needs, and the way there."""

import uuid
from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, func, insert, inspect, select
from sqlalchemy.exc import DBAPIError

from services.adapter_store.metadata.engine import normalised, open_for_migration
from services.adapter_store.metadata.tables import change_counter, metadata

MIGRATIONS = Path(__file__).parents[1] / "migrations"
EMPTY = "none"

# Any constant number: who migrates holds PostgreSQL's advisory lock of this number.
_LOCK = 0x6D_75_6C_74_69


@dataclass(frozen=True, slots=True)
class Migration:
    """What `migrate` did: the versions before and after; EMPTY is a database without tables."""

    before: str
    after: str

    @property
    def outcome(self) -> str:
        """In words."""
        return "nothing to do" if self.before == self.after else "migrated"


class WrongSchema(OSError):
    """The database has other tables than this program needs."""


def head() -> str:
    """The version that this program needs."""
    found = ScriptDirectory(str(MIGRATIONS)).get_current_head()
    assert found is not None, "there is a migration"
    return found


def current(connection: Connection) -> str:
    """The version that a database has."""
    return MigrationContext.configure(connection).get_current_revision() or EMPTY


def check(connection: Connection) -> None:
    """Raises WrongSchema unless the database is at the version that this program needs."""
    found, needed = current(connection), head()
    if found != needed:
        raise WrongSchema(
            f"the database has schema {found}, and this program needs {needed}: run `multilora store migrate`"
        )


def migrate(url: str, target: str = "head") -> Migration:
    """Brings the database at `url` to `target`, in one transaction; others that try meanwhile wait.

    Not from two threads of one process. Raises OSError if the database cannot be opened or has other tables.
    """
    engine = open_for_migration(normalised(url))
    try:
        with engine.connect() as connection, connection.begin():
            if connection.dialect.name == "postgresql":
                connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
            before = current(connection)
            _check_ours(connection, before)
            _run(connection, target)
            return Migration(before, current(connection))
    except DBAPIError as error:
        raise OSError(f"the database {normalised(url)} cannot be migrated: {error.orig}") from error
    finally:
        engine.dispose()


def config(connection: Connection | None = None) -> Config:
    """Alembic's settings; `connection` is what migrations run on."""
    made = Config()
    made.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    made.attributes["connection"] = connection
    return made


def _check_ours(connection: Connection, before: str) -> None:
    script = ScriptDirectory(str(MIGRATIONS))
    known = {revision.revision for revision in script.walk_revisions()}
    if before == EMPTY and set(inspect(connection).get_table_names()) & metadata.tables.keys():
        raise WrongSchema("the database has tables that no migration made: give an empty database")
    if before != EMPTY and before not in known:
        raise WrongSchema(
            f"the database has schema {before}, which is newer than this program: update Multilora"
        )


def _run(connection: Connection, target: str) -> None:
    if target in ("base", EMPTY):
        command.downgrade(config(connection), "base")
        return
    command.upgrade(config(connection), target)
    if connection.execute(select(change_counter.c.id)).first() is None:
        values = {"id": 1, "last_sequence": 0, "database_id": uuid.uuid4().hex}
        connection.execute(insert(change_counter).values(**values))
