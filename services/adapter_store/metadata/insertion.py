"""INSERT that leaves a row which is there already as it is, on every database that is served."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert_if_absent(connection: Connection, table: Table, values: Mapping[str, Any]) -> bool:
    """Inserts the row unless one has its key; says whether it did.

    Waits for a transaction that is inserting the same key. On PostgreSQL the caller's next statement sees
    what that one committed.
    """
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    query = insert(table).values(**values).on_conflict_do_nothing()
    return connection.execute(query, execution_options={"preserve_rowcount": True}).rowcount == 1
