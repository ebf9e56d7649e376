"""Migrations give exactly the tables that the code uses, on each kind of database."""

import contextlib
import sqlite3
import subprocess
import sys

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from services.adapter_store.metadata import Database, migrate
from services.adapter_store.metadata.engine import normalised, open_for_migration
from services.adapter_store.metadata.schema import EMPTY, WrongSchema, head
from services.adapter_store.metadata.tables import metadata


@contextlib.contextmanager
def connected(url):
    engine = open_for_migration(normalised(url))
    with engine.connect() as connection, connection.begin():
        yield connection
    engine.dispose()


def differences(url):
    with connected(url) as connection:
        options = {"compare_type": True, "compare_server_default": True}
        return compare_metadata(MigrationContext.configure(connection, opts=options), metadata)


def ddl(url):
    """What a database says of its own tables, in a form that two of them can be compared by."""
    with connected(url) as connection:

        def lines(query):
            return [str(value) for value in connection.exec_driver_sql(query).scalars()]

        if connection.dialect.name == "sqlite":
            found = lines("SELECT name || ' ' || sql FROM sqlite_schema WHERE tbl_name NOT LIKE 'alembic%'")
            # Constraints come in any order.
            return sorted(line.strip(" ,\t") for sql in found for line in sql.splitlines())
        columns = lines(
            "SELECT c::text FROM (SELECT table_name, column_name, data_type, character_maximum_length,"
            " is_nullable, column_default, collation_name FROM information_schema.columns"
            " WHERE table_schema = 'public' AND table_name NOT LIKE 'alembic%%') c"
        )
        constraints = lines(
            "SELECT conrelid::regclass::text || ' ' || conname || ' ' || pg_get_constraintdef(oid)"
            " FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND conname NOT LIKE 'alembic%%'"
        )
        indexes = lines(
            "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename NOT LIKE 'alembic%%'"
        )
        return sorted([*columns, *constraints, *indexes])


def test_migrations_give_exactly_the_tables_of_the_code(empty_database):
    """After a change of tables.py this says what lacks: migrations/README.md says what to run."""
    assert migrate(empty_database).after == head()
    assert differences(empty_database) == []
    migrated = ddl(empty_database)
    migrate(empty_database, "base")
    with connected(empty_database) as connection:
        metadata.create_all(connection)
    assert migrated == ddl(empty_database)
    assert len(migrated) > 100


def test_up_down_and_up_again(empty_database):
    before = migrate(empty_database)
    assert (before.before, before.outcome) == (EMPTY, "migrated")
    up = ddl(empty_database)
    assert migrate(empty_database, "base").after == EMPTY
    assert ddl(empty_database) == []
    assert migrate(empty_database).after == head()
    assert ddl(empty_database) == up


def test_again_changes_nothing(empty_database):
    migrate(empty_database)
    with contextlib.closing(Database(empty_database)) as database, database.read() as uow:
        identity = database_id(uow)
    again = migrate(empty_database)
    assert (again.before, again.after, again.outcome) == (head(), head(), "nothing to do")
    with contextlib.closing(Database(empty_database)) as database, database.read() as uow:
        assert database_id(uow) == identity


def database_id(uow):
    query = "SELECT database_id FROM change_counter"
    return uow.changes._connection.exec_driver_sql(query).scalar_one()


def test_two_at_once_make_one(empty_database):
    code = (
        "import sys; from services.adapter_store.metadata import migrate; print(migrate(sys.argv[1]).outcome)"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, empty_database], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = sorted(process.communicate(timeout=60)[0].strip() for process in running)
    assert said == ["migrated", "nothing to do"]
    assert differences(empty_database) == []


def test_a_failed_migration_leaves_nothing(empty_database):
    with connected(empty_database) as connection:
        # The last table that the first migration makes has an index of this name.
        connection.exec_driver_sql("CREATE TABLE unrelated (x INTEGER)")
        connection.exec_driver_sql("CREATE INDEX ix_versions_key ON unrelated (x)")
    with pytest.raises(OSError, match="cannot be migrated"):
        migrate(empty_database)
    assert not [line for line in ddl(empty_database) if "base_models" in line]


def test_a_database_that_is_not_at_head_is_not_opened(empty_database):
    with pytest.raises(WrongSchema, match=f"has schema {EMPTY}.*needs {head()}.*multilora store migrate"):
        Database(empty_database)


def test_tables_of_others_are_left_alone(tmp_path):
    path = tmp_path / "old.sqlite3"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE adapters (x INTEGER)")
    with pytest.raises(WrongSchema, match="no migration made"):
        migrate(f"sqlite:///{path}")


def test_a_newer_schema_is_left_alone(empty_database):
    migrate(empty_database)
    with connected(empty_database) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    for open_it in (migrate, Database):
        with pytest.raises(WrongSchema, match="9999"):
            open_it(empty_database)
