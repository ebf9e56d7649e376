"""Times between Python (aware, UTC) and SQL (microseconds since 1970)."""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_us(time: datetime) -> int:
    """Microseconds since 1970."""
    return (time - _EPOCH) // timedelta(microseconds=1)


def from_us(time_us: int) -> datetime:
    """An aware UTC time."""
    return _EPOCH + timedelta(microseconds=time_us)
