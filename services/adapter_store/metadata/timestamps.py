"""Times between Python (aware, UTC) and SQL (microseconds since 1970)."""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS_A_DAY = 86_400


def to_us(time: datetime) -> int:
    """Microseconds since 1970."""
    seconds, microseconds = to_seconds(time)
    return seconds * 1_000_000 + microseconds


def to_seconds(time: datetime) -> tuple[int, int]:
    """Whole seconds since 1970, and the microseconds after them, 0 to 999,999."""
    # A third of the time that a division of timedeltas takes, and a page of a list has hundreds.
    since = time - _EPOCH
    return since.days * _SECONDS_A_DAY + since.seconds, since.microseconds


def from_us(time_us: int) -> datetime:
    """An aware UTC time."""
    return _EPOCH + timedelta(microseconds=time_us)
