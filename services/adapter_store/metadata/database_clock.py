"""The database's clock, which every replica reads alike: what expires for one has expired for all."""

from datetime import datetime

from sqlalchemy import Connection, text

from services.adapter_store.metadata.timestamps import from_us

_TIME_US = {
    # Milliseconds are what it knows.
    "sqlite": "SELECT CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000",
    # Not the transaction's time: it may have waited for a lock since it began.
    "postgresql": "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)",
}


def database_time(connection: Connection) -> datetime:
    """The time now, in UTC."""
    return from_us(int(connection.execute(text(_TIME_US[connection.dialect.name])).scalar_one()))
